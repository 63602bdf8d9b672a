//! Floor 3: optimisers over the flat parameter vector.

use crate::device::{self, Array, DType};
use crate::error::{Error, Result};
use crate::nn::Parameters;
use crate::ops::{AdamStep, GradientScale, SgdStep, adam_step, sgd_step};
use crate::settings::choices;
use serde::{Deserialize, Serialize};

choices! {
    /// Which optimiser.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum Kind {
        /// Stochastic gradient descent with momentum.
        Sgd = "sgd",
        /// Adam with β = (0.9, 0.999), ε = 1e-8 and weight decay added to the gradient.
        Adam = "adam",
    }
}

choices! {
    /// Which parameters weight decay acts on.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum Decay {
        #[default]
        /// Weights of layers and scales of batch norms; not biases and shifts.
        Weights = "weights",
        /// All, as PyTorch's optimisers do by default.
        All = "all",
    }
}

choices! {
    /// What the velocity of SGD sums up. It matters where the rate changes while the velocity stays.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum Velocity {
        #[default]
        /// Gradients, as in PyTorch: a new rate acts on what was summed up before too.
        Gradients = "gradients",
        /// Steps, gradients times the rate of their time, as in Caffe and Lasagne.
        Steps = "steps",
    }
}

/// An optimiser and its state, which lives beside the parameters it moves.
///
/// ```
/// use engram::models::Network;
/// use engram::ops::Mode;
/// use engram::optim::{Kind, Optimizer};
/// use engram::{Device, Tensor};
/// let device = Device::cpu();
/// let network = Network::new("mlp", [1, 4, 4], 2, &device, 1)?;
/// let mut optimizer = Optimizer::new(Kind::Adam, 0.9, 1e-4, &network.parameters)?;
/// let x = Tensor::from_f32(&device, [2, 1, 4, 4], &[[0.0; 16], [1.0; 16]].concat())?;
/// let labels = Tensor::from_u32(&device, [2], &[0, 1])?;
/// for _ in 0..50 {
///     let loss = network.forward(&x, Mode::Train)?.logits.cross_entropy(&labels, 2)?;
///     network.parameters.backward(&loss)?;
///     optimizer.step(&network.parameters, 0.01)?;
/// }
/// assert_eq!(network.forward(&x, Mode::Eval)?.logits.argmax_rows(2)?.to_u32()?, [0, 1]);
/// # Ok::<(), engram::Error>(())
/// ```
pub struct Optimizer {
    kind: Kind,
    momentum: f32,
    weight_decay: f32,
    decay: Decay,
    velocity: Velocity,
    /// What the rate is multiplied with for the last layer, which is then not decayed.
    last_layer: Option<f32>,
    /// Velocity; or first and second moment.
    state: Vec<Array>,
    n_steps: u32,
}

impl Optimizer {
    /// An optimiser for these parameters, with zero state. Adam ignores `momentum`.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn new(kind: Kind, momentum: f32, weight_decay: f32, parameters: &Parameters) -> Result<Optimizer> {
        let values = parameters.values();
        let n_vectors = if kind == Kind::Sgd { 1 } else { 2 };
        let state: Result<Vec<Array>> =
            (0..n_vectors).map(|_| Array::empty(&values.device(), values.shape(), DType::F32)).collect();
        let (decay, velocity) = (Decay::Weights, Velocity::Gradients);
        let state = state?;
        let last_layer = None;
        let mut optimizer = Optimizer { kind, momentum, weight_decay, decay, velocity, last_layer, state, n_steps: 0 };
        optimizer.reset()?;
        Ok(optimizer)
    }

    /// The same with weight decay on these parameters; at first it acts on weights.
    pub fn decaying(self, decay: Decay) -> Optimizer {
        Optimizer { decay, ..self }
    }

    /// The same with a velocity of this kind; at first it sums up gradients. Adam has none.
    pub fn with_velocity(self, velocity: Velocity) -> Optimizer {
        Optimizer { velocity, ..self }
    }

    /// The same with a rate for the last layer that is `factor` times that of the others, and without weight decay there: a head
    /// that gets no gradient stays as it is.
    pub fn with_last_layer(self, factor: Option<f32>) -> Optimizer {
        Optimizer { last_layer: factor, ..self }
    }

    /// Changes the factor of [`Optimizer::with_last_layer`].
    pub fn set_last_layer(&mut self, factor: f32) {
        self.last_layer = Some(factor);
    }

    /// Forgets velocity and moments.
    ///
    /// # Errors
    /// If the adapter was lost.
    pub fn reset(&mut self) -> Result<()> {
        self.n_steps = 0;
        self.state.iter().try_for_each(|vector| device::fill(vector, 0.0))
    }

    /// How many vectors of the parameters' length the state has.
    pub fn n_vectors(&self) -> usize {
        self.state.len()
    }

    /// Steps since the last reset, and host copies of the state's vectors.
    ///
    /// # Errors
    /// If the device was lost.
    pub fn state(&self) -> Result<(u32, Vec<Vec<f32>>)> {
        let vectors: Result<_> = self.state.iter().map(Array::to_vec).collect();
        Ok((self.n_steps, vectors?))
    }

    /// Puts back what [`Optimizer::state`] said.
    ///
    /// # Errors
    /// If the vectors are of another length or number.
    pub fn restore(&mut self, n_steps: u32, vectors: &[Vec<f32>]) -> Result<()> {
        if vectors.len() != self.state.len() {
            return Err(Error::op("restore", "the state is of another kind of optimiser"));
        }
        self.n_steps = n_steps;
        self.state.iter().zip(vectors).try_for_each(|(own, values)| own.write(values))
    }

    /// Moves the parameters against their gradients, `lr` times as far; where gradients are scaled
    /// ([`Parameters::backward`]) and overflowed, nothing changes.
    ///
    /// # Errors
    /// If the parameters are frozen, or of another size than those the optimiser was made for.
    pub fn step(&mut self, parameters: &Parameters, lr: f32) -> Result<()> {
        step_all([(parameters, self)], lr)
    }

    /// One step; none if the scale says that gradients overflowed.
    fn advance(&mut self, parameters: &Parameters, lr: f32, scale: Option<&GradientScale>) -> Result<()> {
        let gradients = parameters.gradients().ok_or_else(|| Error::op("step", "the parameters are frozen"))?;
        let w = parameters.values();
        let n_decayed = match self.decay {
            Decay::Weights => parameters.n_decayed(),
            Decay::All => w.n_elements(),
        };
        self.n_steps += 1;
        let unless = scale.map(GradientScale::state);
        let Some(factor) = self.last_layer else {
            return self.act(gradients, w, &self.state, [lr, self.weight_decay], n_decayed, unless);
        };
        for (piece, is_last) in pieces(parameters) {
            let part = |array: &Array| array.slice(piece.start, [piece.len()]);
            let state: Vec<Array> = self.state.iter().map(part).collect::<Result<_>>()?;
            let [lr, decay] = if is_last { [factor * lr, 0.0] } else { [lr, self.weight_decay] };
            let n_decayed = n_decayed.clamp(piece.start, piece.end) - piece.start;
            self.act(&part(gradients)?, &part(w)?, &state, [lr, decay], n_decayed, unless)?;
        }
        Ok(())
    }

    /// A step of one stretch of the parameters.
    fn act(
        &self,
        gradients: &Array,
        w: &Array,
        state: &[Array],
        [lr, weight_decay]: [f32; 2],
        n_decayed: usize,
        unless: Option<&Array>,
    ) -> Result<()> {
        match self.kind {
            Kind::Sgd => {
                let velocity_of_steps = self.velocity == Velocity::Steps;
                let step = SgdStep { lr, velocity_of_steps, momentum: self.momentum, weight_decay, n_decayed };
                sgd_step(gradients, w, &state[0], step, unless)
            }
            Kind::Adam => {
                let (beta1, beta2, epsilon) = (0.9, 0.999, 1e-8);
                let step = AdamStep { lr, beta1, beta2, epsilon, weight_decay, n_decayed, t: self.n_steps };
                adam_step(gradients, w, &state[0], &state[1], step, unless)
            }
        }
    }
}

/// The flat vector in stretches, and whether each is the last layer's.
fn pieces(parameters: &Parameters) -> Vec<(std::ops::Range<usize>, bool)> {
    let (weight, bias) = parameters.last_layer();
    let (n_decayed, end) = (parameters.n_decayed(), parameters.values().n_elements());
    let bias = bias.unwrap_or(end);
    let all = [(0..weight, false), (weight..n_decayed, true), (n_decayed..bias, false), (bias..end, true)];
    all.into_iter().filter(|(piece, _)| !piece.is_empty()).collect()
}

/// One step of each optimiser, by gradients of one [`backward`](crate::nn::backward) pass over all these parameters, named in the
/// same order. Where gradients are scaled and one of them overflowed, none of the parameters changes: they stay in step.
///
/// # Errors
/// As [`Optimizer::step`].
pub fn step_all<'a>(all: impl IntoIterator<Item = (&'a Parameters, &'a mut Optimizer)>, lr: f32) -> Result<()> {
    let mut all: Vec<_> = all.into_iter().collect();
    let scale = all.iter().find_map(|(parameters, _)| parameters.gradient_scale());
    scale.map_or(Ok(()), GradientScale::settle)?;
    all.iter_mut().try_for_each(|(parameters, optimizer)| optimizer.advance(parameters, lr, scale))
}
