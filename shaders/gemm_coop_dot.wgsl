// Skeleton of a matrix product on the units for small matrices, like gemm_coop.wgsl, for factors that lie along k: it has the holes of
// gemm_dot.wgsl, and takes the same operands.
//
//   C[m, n] = Σ_k A[m, k] · B[n, k],   k in fours from first_four up to end_four

// Fours of k in a slab; it divides the number of invocations.
const BF: u32 = BK / 4u;

struct Extent {
    n_rows: u32,
    n_columns: u32,
    first_four: u32,
    end_four: u32,
}

@compute @workgroup_size(N_INVOCATIONS)
fn multiply(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    slice = wid.z;
    lane = index % 32u;
    let subgroup = index / 32u;
    let extent = extent();
    let first_row = wid.y * BM;
    let first_column = wid.x * BN;

    var a_places: array<PlaceA, A_ROUNDS>;
    var b_places: array<PlaceB, B_ROUNDS>;
    var a_next: array<PieceA, A_ROUNDS>;
    var b_next: array<PieceB, B_ROUNDS>;
    let first = four_at(extent.first_four + index % BF, extent.end_four);
    // unrolled
    for (var i = 0u; i < A_ROUNDS; i++) {
        a_places[i] = place_a(first_row, (index + i * N_INVOCATIONS) % A_ITEMS);
        a_next[i] = fetch_a(a_places[i], first);
    }
    // unrolled
    for (var i = 0u; i < B_ROUNDS; i++) {
        b_places[i] = place_b(first_column, (index + i * N_INVOCATIONS) % B_ITEMS);
        b_next[i] = fetch_b(b_places[i], first);
    }

    var sums: Sums;
    for (var k = extent.first_four; k < extent.end_four; k += BF) {
        // unrolled
        for (var i = 0u; i < A_ROUNDS; i++) {
            if (i + 1u) * N_INVOCATIONS <= A_ITEMS || index + i * N_INVOCATIONS < A_ITEMS {
                put_a(index + i * N_INVOCATIONS, a_next[i]);
            }
        }
        // unrolled
        for (var i = 0u; i < B_ROUNDS; i++) {
            if (i + 1u) * N_INVOCATIONS <= B_ITEMS || index + i * N_INVOCATIONS < B_ITEMS {
                put_b(index + i * N_INVOCATIONS, b_next[i]);
            }
        }
        workgroupBarrier();
        let next = four_at(k + BF + index % BF, extent.end_four);
        // unrolled
        for (var i = 0u; i < A_ROUNDS; i++) {
            a_next[i] = fetch_a(a_places[i], next);
        }
        // unrolled
        for (var i = 0u; i < B_ROUNDS; i++) {
            b_next[i] = fetch_b(b_places[i], next);
        }
        multiply_slabs(subgroup, &sums);
        workgroupBarrier();
    }

    // unrolled
    for (var i = 0u; i < SPLIT * FM * FN; i++) {
        sums.high[i] = combine(sums.high[i], sums.low[i], 1.0 / LOW);
    }
    let row = first_row + first_row_of(subgroup);
    let column = first_column + first_column_of(subgroup);
    // unrolled
    for (var i = 0u; i < FM; i++) {
        // unrolled
        for (var j = 0u; j < FN; j += STAGED) {
            // unrolled
            for (var s = 0u; s < STAGED; s++) {
                put_on_stage(sums.high[i * FN + j + s], subgroup * STAGE_LENGTH + 4u * s);
            }
            workgroupBarrier();
            for (var at = lane; at < 256u * STAGED; at += 32u) {
                let m = row + 16u * i + at / (16u * STAGED);
                let n = at % (16u * STAGED);
                if m < extent.n_rows && column + 16u * j + n < extent.n_columns {
                    let place = subgroup * STAGE_LENGTH + at / (16u * STAGED) * STAGE_WIDTH + n / 4u;
                    store(m, column + 16u * j + n, stage[place][n % 4u]);
                }
            }
            workgroupBarrier();
        }
    }
}
