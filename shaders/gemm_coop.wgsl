// Skeleton of a matrix product on the units for small matrices that some adapters have: gemm_tile.wgsl with factors rounded to f16, or
// split in two (gemm_fragments.wgsl), and sums in f32. It has the holes of gemm_tile.wgsl, and takes the same operands.
//
//   C[m, n] = Σ_k A[m, k] · B[k, n],   k from first_k up to end_k
//
// The subgroups put their fragments of the tile into shared memory, 16 rows at a time, and store them from there: a fragment
// does not say which of its elements an invocation holds.
//
// Sums run in an order that is fixed by the adapter.

struct Extent {
    n_rows: u32,
    n_fours: u32, // of columns
    first_k: u32,
    end_k: u32,
}

@compute @workgroup_size(N_INVOCATIONS)
fn multiply(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    slice = wid.z;
    lane = index % 32u;
    let subgroup = index / 32u;
    let extent = extent();
    // More columns of tiles than a grid is wide go on below the rows.
    let n_row_tiles = (extent.n_rows + BM - 1u) / BM;
    let fold = wid.y / n_row_tiles;
    let first_row = (wid.y - fold * n_row_tiles) * BM;
    let first_four = (wid.x + fold * n_groups.x) * (BN / 4u);

    // An invocation loads the same places of every slab. Surplus ones take part too: all meet at the barriers.
    var a_places: array<PlaceA, A_ROUNDS>;
    var b_places: array<PlaceB, B_ROUNDS>;
    var a_next: array<PieceA, A_ROUNDS>;
    var b_next: array<PieceB, B_ROUNDS>;
    // unrolled
    for (var i = 0u; i < A_ROUNDS; i++) {
        a_places[i] = place_a(first_row, (index + i * N_INVOCATIONS) % A_ITEMS);
        a_next[i] = fetch_a(a_places[i], extent.first_k, extent.end_k);
    }
    // unrolled
    for (var i = 0u; i < B_ROUNDS; i++) {
        b_places[i] = place_b(first_four, max(extent.n_fours, 1u) - 1u, (index + i * N_INVOCATIONS) % B_ITEMS);
        b_next[i] = fetch_b(b_places[i], extent.first_k, extent.end_k);
    }

    var sums: Sums;
    for (var k = extent.first_k; k < extent.end_k; k += BK) {
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
        // unrolled
        for (var i = 0u; i < A_ROUNDS; i++) {
            a_next[i] = fetch_a(a_places[i], k + BK, extent.end_k);
        }
        // unrolled
        for (var i = 0u; i < B_ROUNDS; i++) {
            b_next[i] = fetch_b(b_places[i], k + BK, extent.end_k);
        }
        multiply_slabs(subgroup, &sums);
        workgroupBarrier();
    }

    // unrolled
    for (var i = 0u; i < SPLIT * FM * FN; i++) {
        sums.high[i] = combine(sums.high[i], sums.low[i], 1.0 / LOW);
    }
    let row = first_row + first_row_of(subgroup);
    let four = first_four + first_column_of(subgroup) / 4u;
    // unrolled
    for (var i = 0u; i < FM; i++) {
        // unrolled
        for (var j = 0u; j < FN; j += STAGED) {
            // unrolled
            for (var s = 0u; s < STAGED; s++) {
                put_on_stage(sums.high[i * FN + j + s], subgroup * STAGE_LENGTH + 4u * s);
            }
            workgroupBarrier();
            for (var at = lane; at < 64u * STAGED; at += 32u) {
                let m = row + 16u * i + at / (4u * STAGED);
                let n = four + 4u * j + at % (4u * STAGED);
                if m < extent.n_rows && n < extent.n_fours {
                    store(m, columns_at(n), stage[subgroup * STAGE_LENGTH + at / (4u * STAGED) * STAGE_WIDTH + at % (4u * STAGED)]);
                }
            }
            workgroupBarrier();
        }
    }
}
