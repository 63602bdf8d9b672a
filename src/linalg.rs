//! Dense linear algebra in f64, on the host: what a method computes once per task, over `faer`. One thread, so that the bits do not
//! depend on how many there are.

use crate::error::{Error, Result};
use faer::linalg::solvers::{Llt, SelfAdjointEigen, Solve};
use faer::{Mat, MatRef, Side};

/// Least ratio of a singular value to the largest that the Gram matrix still resolves: its eigenvalues are squares, known to 2⁻⁵².
const GRAM_RESOLVES: f64 = 1e-7;

/// Largest difference of a(i, j) and a(j, i), in units of the largest element, of a matrix that counts as symmetric.
const SYMMETRIC_TO: f64 = 1e-6;

/// A matrix, row after row.
///
/// ```
/// use engram::linalg::{Cholesky, Matrix, symmetric_eigen};
/// let a = Matrix::new(2, 2, vec![2.0, 1.0, 1.0, 2.0])?;
/// let eigen = symmetric_eigen(&a)?;
/// assert!((eigen.values[0] - 1.0).abs() < 1e-12 && (eigen.values[1] - 3.0).abs() < 1e-12);
///
/// let cholesky = Cholesky::new(&a)?;
/// assert!((cholesky.log_determinant() - 3.0f64.ln()).abs() < 1e-12);
/// let x = cholesky.solve(&Matrix::new(2, 1, vec![3.0, 3.0])?)?;
/// assert!((x.at(0, 0) - 1.0).abs() < 1e-12 && (x.at(1, 0) - 1.0).abs() < 1e-12);
/// # Ok::<(), engram::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    rows: usize,
    columns: usize,
    values: Vec<f64>,
}

impl Matrix {
    /// A matrix of `rows` · `columns` values, row after row.
    ///
    /// # Errors
    /// If there are not that many values.
    pub fn new(rows: usize, columns: usize, values: Vec<f64>) -> Result<Matrix> {
        if values.len() != rows * columns {
            return Err(Error::op("matrix", format!("{} values are no {rows}×{columns} matrix", values.len())));
        }
        Ok(Matrix { rows, columns, values })
    }

    /// What the function says of each (row, column).
    pub fn from_fn(rows: usize, columns: usize, f: impl Fn(usize, usize) -> f64) -> Matrix {
        let values = (0..rows * columns).map(|i| f(i / columns, i % columns)).collect();
        Matrix { rows, columns, values }
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many columns there are.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// All values, row after row.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// The values of one row.
    pub fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.columns..(row + 1) * self.columns]
    }

    /// One value.
    pub fn at(&self, row: usize, column: usize) -> f64 {
        self.values[row * self.columns + column]
    }

    /// The values of one column.
    pub fn column(&self, column: usize) -> Vec<f64> {
        (0..self.rows).map(|row| self.at(row, column)).collect()
    }

    /// Rows for columns.
    pub fn transposed(&self) -> Matrix {
        Matrix::from_fn(self.columns, self.rows, |i, j| self.at(j, i))
    }

    /// The matrix product with `other`, whose rows are this one's columns.
    ///
    /// # Errors
    /// If they are not as many.
    pub fn times(&self, other: &Matrix) -> Result<Matrix> {
        if self.columns != other.rows {
            let [a, b] = [self, other].map(Matrix::size);
            return Err(Error::op("matrix product", format!("{a} and {b} do not fit together")));
        }
        Ok(Matrix::of((self.view() * other.view()).as_ref()))
    }

    /// AᵀA, (columns, columns).
    pub fn gram(&self) -> Matrix {
        Matrix::of((self.view().transpose() * self.view()).as_ref())
    }

    fn size(&self) -> String {
        format!("{}×{}", self.rows, self.columns)
    }

    fn view(&self) -> MatRef<'_, f64> {
        MatRef::from_row_major_slice(&self.values, self.rows, self.columns)
    }

    fn of(own: MatRef<'_, f64>) -> Matrix {
        Matrix::from_fn(own.nrows(), own.ncols(), |i, j| own[(i, j)])
    }

    /// Refuses what is not square, not finite or not symmetric.
    fn check_symmetric(&self, op: &'static str) -> Result<()> {
        if self.rows != self.columns || self.rows == 0 {
            return Err(Error::op(op, format!("a square matrix is wanted, not one of {}", self.size())));
        }
        self.check_finite(op)?;
        let largest = self.values.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
        for i in 0..self.rows {
            for j in 0..i {
                let (below, above) = (self.at(i, j), self.at(j, i));
                if !((below - above).abs() <= SYMMETRIC_TO * largest) {
                    return Err(Error::op(op, format!("not symmetric: {below} at ({i}, {j}), {above} at ({j}, {i})")));
                }
            }
        }
        Ok(())
    }

    fn check_finite(&self, op: &'static str) -> Result<()> {
        match self.values.iter().position(|x| !x.is_finite()) {
            None => Ok(()),
            Some(at) => {
                let (i, j) = (at / self.columns, at % self.columns);
                Err(Error::op(op, format!("the value at ({i}, {j}) is {}", self.values[at])))
            }
        }
    }
}

/// A = V·diag(values)·Vᵀ.
#[derive(Clone, Debug, PartialEq)]
pub struct Eigen {
    /// From the smallest to the largest.
    pub values: Vec<f64>,
    /// Unit vectors as columns, in the order of the values; of each the component of largest magnitude is positive.
    pub vectors: Matrix,
}

/// Eigenvalues and eigenvectors of a symmetric matrix.
///
/// # Errors
/// If it is not square, not symmetric (to a millionth of its largest element), or holds what is no number.
pub fn symmetric_eigen(a: &Matrix) -> Result<Eigen> {
    a.check_symmetric("eigen-decomposition")?;
    let eigen = SelfAdjointEigen::new(a.view(), Side::Lower)
        .map_err(|e| Error::op("eigen-decomposition", format!("the iteration does not converge: {e:?}")))?;
    let values: Vec<f64> = eigen.S().column_vector().iter().copied().collect();
    let vectors = eigen.U();
    let signs: Vec<f64> = (0..a.columns).map(|j| sign(vectors.col(j).iter().copied())).collect();
    let vectors = Matrix::from_fn(a.rows, a.columns, |i, j| signs[j] * vectors[(i, j)]);
    Ok(Eigen { values, vectors })
}

/// That of the component of largest magnitude, of the first of several.
fn sign(vector: impl Iterator<Item = f64>) -> f64 {
    let largest = vector.fold(0.0f64, |largest, x| if x.abs() > largest.abs() { x } else { largest });
    if largest < 0.0 { -1.0 } else { 1.0 }
}

/// The best approximation of a rank: A ≈ U·diag(values)·Vᵀ.
#[derive(Clone, Debug, PartialEq)]
pub struct Svd {
    /// (rows, rank), orthonormal columns.
    pub u: Matrix,
    /// Singular values, from the largest to the smallest.
    pub values: Vec<f64>,
    /// (columns, rank), orthonormal columns; of each the component of largest magnitude is positive.
    pub v: Matrix,
}

/// The `rank` largest singular values of a matrix with many rows and few columns, and their vectors, by the eigen-decomposition of
/// AᵀA: exact to about ε·(largest / smallest singular value)².
///
/// # Errors
/// If the matrix has not that many columns, holds what is no number, or is ill-conditioned: if a wanted singular value is below
/// 1e-7 of the largest, where AᵀA no longer tells it from 0.
pub fn svd_of_tall(a: &Matrix, rank: usize) -> Result<Svd> {
    if rank == 0 || rank > a.columns {
        return Err(Error::op("singular values", format!("a matrix of {} has no {rank} of them", a.size())));
    }
    a.check_finite("singular values")?;
    let eigen = symmetric_eigen(&a.gram())?;
    let last = a.columns - 1;
    let values: Vec<f64> = (0..rank).map(|k| eigen.values[last - k].max(0.0).sqrt()).collect();
    if let Some(k) = values.iter().position(|&value| !(value > GRAM_RESOLVES * values[0])) {
        let advice = "ask for fewer";
        return Err(Error::op(
            "singular values",
            format!("number {} of {rank} is {} beside {}: {advice}", k + 1, values[k], values[0]),
        ));
    }
    let v = Matrix::from_fn(a.columns, rank, |i, k| eigen.vectors.at(i, last - k));
    let images = a.times(&v)?;
    let u = Matrix::from_fn(a.rows, rank, |i, k| images.at(i, k) / values[k]);
    Ok(Svd { u, values, v })
}

/// A = L·Lᵀ of a symmetric positive definite matrix.
pub struct Cholesky {
    factor: Llt<f64>,
    order: usize,
}

impl Cholesky {
    /// Factors a matrix, of which the lower triangle counts.
    ///
    /// # Errors
    /// If it is not square or not symmetric (to a millionth of its largest element), holds what is no number, is not positive
    /// definite, or so ill-conditioned that a solution would have no correct digit.
    pub fn new(a: &Matrix) -> Result<Cholesky> {
        a.check_symmetric("cholesky")?;
        let advice = "add more to its diagonal";
        let factor = Llt::new(a.view(), Side::Lower)
            .map_err(|e| Error::op("cholesky", format!("the matrix is not positive definite ({e:?}): {advice}")))?;
        let cholesky = Cholesky { factor, order: a.rows };
        let pivots = || cholesky.diagonal().map(|x| x * x);
        let (least, most) = (pivots().fold(f64::INFINITY, f64::min), pivots().fold(0.0, f64::max));
        if !(least > a.rows as f64 * f64::EPSILON * most) {
            let said = format!("the matrix is ill-conditioned: its pivots run from {least:e} to {most:e}: {advice}");
            return Err(Error::op("cholesky", said));
        }
        Ok(cholesky)
    }

    fn diagonal(&self) -> impl Iterator<Item = f64> + '_ {
        let l = self.factor.L();
        (0..self.order).map(move |i| l[(i, i)])
    }

    /// L, lower triangular, with A = L·Lᵀ.
    pub fn lower(&self) -> Matrix {
        let l = self.factor.L();
        Matrix::from_fn(self.order, self.order, |i, j| if j <= i { l[(i, j)] } else { 0.0 })
    }

    /// X with A·X = B, for as many right-hand sides as B has columns.
    ///
    /// # Errors
    /// If B has not as many rows as A.
    pub fn solve(&self, b: &Matrix) -> Result<Matrix> {
        if b.rows != self.order {
            return Err(Error::op("cholesky", format!("{} rows on the right, {} on the left", b.rows, self.order)));
        }
        let mut x = Mat::from_fn(b.rows, b.columns, |i, j| b.at(i, j));
        self.factor.solve_in_place(x.as_mut());
        Ok(Matrix::of(x.as_ref()))
    }

    /// A⁻¹.
    pub fn inverse(&self) -> Matrix {
        let mut x = Mat::<f64>::identity(self.order, self.order);
        self.factor.solve_in_place(x.as_mut());
        Matrix::of(x.as_ref())
    }

    /// log det A.
    pub fn log_determinant(&self) -> f64 {
        self.diagonal().map(|x| 2.0 * x.ln()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Rng};

    fn random(rows: usize, columns: usize, key: u64) -> Matrix {
        let mut rng = Rng::keyed(7, Purpose::Memory, key);
        let values = (0..rows * columns).map(|_| f64::from(rng.uniform()) - 0.5).collect();
        Matrix::new(rows, columns, values).unwrap()
    }

    fn positive(n: usize) -> Matrix {
        let gram = random(2 * n, n, 1).gram();
        Matrix::from_fn(n, n, |i, j| gram.at(i, j) + f64::from(u8::from(i == j)))
    }

    fn close(a: &Matrix, b: &Matrix, to: f64) {
        assert_eq!((a.rows, a.columns), (b.rows, b.columns));
        for (i, (x, y)) in a.values.iter().zip(&b.values).enumerate() {
            assert!((x - y).abs() <= to, "value {i}: {x} and {y}");
        }
    }

    fn identity(n: usize) -> Matrix {
        Matrix::from_fn(n, n, |i, j| f64::from(u8::from(i == j)))
    }

    #[test]
    fn products_are_sums_of_products() {
        let (a, b) = (random(5, 3, 2), random(3, 4, 3));
        let by_hand = Matrix::from_fn(5, 4, |i, j| (0..3).map(|k| a.at(i, k) * b.at(k, j)).sum());
        close(&a.times(&b).unwrap(), &by_hand, 1e-14);
        close(&a.gram(), &a.transposed().times(&a).unwrap(), 1e-14);
        assert!(b.times(&a).unwrap_err().to_string().contains("3×4 and 5×3"));
    }

    #[test]
    fn eigenvectors_are_orthonormal_and_make_up_the_matrix() {
        for n in [1, 2, 17, 90] {
            let a = positive(n);
            let Eigen { values, vectors } = symmetric_eigen(&a).unwrap();
            assert!(values.is_sorted(), "{values:?}");
            close(&vectors.gram(), &identity(n), 1e-12);
            let scaled = Matrix::from_fn(n, n, |i, j| vectors.at(i, j) * values[j]);
            close(&scaled.times(&vectors.transposed()).unwrap(), &a, 1e-11);
            for j in 0..n {
                assert!(sign(vectors.column(j).into_iter()) > 0.0);
            }
        }
    }

    /// diag(3, 2)·V with V a rotation by 30 degrees, one row of zeros below.
    #[test]
    fn singular_values_are_those_worked_out_by_hand() {
        let (c, s) = (0.75f64.sqrt(), 0.5);
        let a = Matrix::new(3, 2, vec![3.0 * c, 3.0 * s, -2.0 * s, 2.0 * c, 0.0, 0.0]).unwrap();
        let svd = svd_of_tall(&a, 2).unwrap();
        assert!((svd.values[0] - 3.0).abs() < 1e-12 && (svd.values[1] - 2.0).abs() < 1e-12, "{:?}", svd.values);
        close(&svd.v, &Matrix::new(2, 2, vec![c, -s, s, c]).unwrap(), 1e-12);
        close(&svd.u, &Matrix::new(3, 2, vec![1.0, 0.0, 0.0, 1.0, 0.0, 0.0]).unwrap(), 1e-12);
        let first = svd_of_tall(&a, 1).unwrap();
        assert_eq!(first.values, svd.values[..1]);
    }

    #[test]
    fn solutions_solve_and_determinants_are_products_of_eigenvalues() {
        for n in [1, 3, 64, 150] {
            let a = positive(n);
            let cholesky = Cholesky::new(&a).unwrap();
            let b = random(n, 5, 4);
            close(&a.times(&cholesky.solve(&b).unwrap()).unwrap(), &b, 1e-10);
            close(&a.times(&cholesky.inverse()).unwrap(), &identity(n), 1e-10);
            let by_values: f64 = symmetric_eigen(&a).unwrap().values.iter().map(|x| x.ln()).sum();
            assert!((cholesky.log_determinant() - by_values).abs() < 1e-9 * n as f64);
        }
    }

    #[test]
    fn the_same_bits_every_time() {
        let a = positive(130);
        let of = |n_threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
            pool.install(|| (symmetric_eigen(&a).unwrap(), Cholesky::new(&a).unwrap().solve(&a).unwrap()))
        };
        assert_eq!(of(1), of(3));
    }

    #[test]
    fn what_has_no_answer_is_refused_with_the_reason() {
        let refused = |result: Result<Cholesky>, with: &str| {
            let said = result.err().expect("it was not refused").to_string();
            assert!(said.contains(with), "{said}");
        };
        let of = |values: &[f64]| Cholesky::new(&Matrix::new(2, 2, values.to_vec()).unwrap());
        refused(of(&[1.0, 2.0, 2.0, 1.0]), "not positive definite");
        refused(of(&[1.0, 1.0, 1.0, 1.0 + 2e-16]), "diagonal");
        refused(of(&[1.0, 0.0, 0.0, 1e-17]), "ill-conditioned");
        refused(of(&[1.0, 0.5, 0.0, 1.0]), "not symmetric: 0 at (1, 0)");
        refused(of(&[1.0, f64::NAN, 0.0, 1.0]), "the value at (0, 1) is NaN");
        refused(Cholesky::new(&random(2, 3, 5)), "not one of 2×3");
        assert!(of(&[4.0, 2.0, 2.0, 3.0]).unwrap().solve(&random(3, 1, 6)).is_err());
        assert!(Matrix::new(2, 2, vec![1.0]).is_err());

        // Both columns the same: one singular value is √20, the other 0.
        let twin = Matrix::new(3, 2, vec![1.0, 1.0, 3.0, 3.0, 0.0, 0.0]).unwrap();
        assert!((svd_of_tall(&twin, 1).unwrap().values[0] - 20.0f64.sqrt()).abs() < 1e-12);
        let said = svd_of_tall(&twin, 2).unwrap_err().to_string();
        assert!(said.contains("number 2 of 2") && said.contains("fewer"), "{said}");
        assert!(svd_of_tall(&twin, 3).is_err());
        assert!(svd_of_tall(&Matrix::from_fn(3, 2, |_, _| 0.0), 1).is_err());
        assert!(symmetric_eigen(&Matrix::new(1, 1, vec![f64::INFINITY]).unwrap()).is_err());
    }
}
