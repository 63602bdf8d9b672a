// Rows of a matrix: on hardware the invocations of a workgroup share one; on software adapters, which are slow at barriers,
// an invocation has one to itself, unless rows are long. Sums over a row are in a fixed order. CPU twin: none, it moves partial sums of a kernel.

// Invocations per row: WG or 1.
override ROW: u32 = 1u;
var<workgroup> row_parts: array<f32, WG>;

struct Row {
    row: u32,
    lane: u32,     // place among the invocations of the row
    exists: bool,  // false for surplus invocations, which go over the last row again
}

fn row_of(flat: u32, n_rows: u32) -> Row {
    let row = flat / ROW;
    return Row(min(row, n_rows - 1u), flat % ROW, row < n_rows);
}

// All invocations of the workgroup must call these, and all get the result.
fn sum_of_row(lane: u32, part: f32) -> f32 {
    var result = part;
    if ROW > 1u {
        row_parts[lane] = part;
        workgroupBarrier();
        for (var half = ROW / 2u; half > 0u; half /= 2u) {
            if lane < half {
                row_parts[lane] += row_parts[lane + half];
            }
            workgroupBarrier();
        }
        result = row_parts[0];
        workgroupBarrier();
    }
    return result;
}

fn max_of_row(lane: u32, part: f32) -> f32 {
    var result = part;
    if ROW > 1u {
        row_parts[lane] = part;
        workgroupBarrier();
        for (var half = ROW / 2u; half > 0u; half /= 2u) {
            if lane < half {
                row_parts[lane] = max(row_parts[lane], row_parts[lane + half]);
            }
            workgroupBarrier();
        }
        result = row_parts[0];
        workgroupBarrier();
    }
    return result;
}
