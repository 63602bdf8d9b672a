// choose: labels of pixels whose class is old or background, by an old network that is sure of it
//   u = −Σ_c p[c]·ln p[c] / ln K,  p = softmax of the first K channels of x;  best = the first largest of them
//   y[i] = best if labels[i] < K and u < thresholds[best], IGNORE if labels[i] < K else, labels[i] otherwise
//   accepted[i] = 1 in the first case, asked[i] = 1 in the first two
// share: factor[n] = accepted[n] / asked[n] of sums over images, 1 where nothing was asked
//
// Shapes: x (N, C, plane), labels, y, accepted and asked (n_pixels) = (N, plane), thresholds (K), factor (N). One invocation
// owns one pixel, or one image. CPU twin: src/ops/pseudo_labels.rs

struct Params {
    n: u32, // pixels or images
    c: u32,
    plane: u32,
    n_old: u32,
}

const IGNORE: u32 = 0xffffffffu;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read> thresholds: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<u32>;
@group(0) @binding(4) var<storage, read_write> accepted: array<f32>;
@group(0) @binding(5) var<storage, read_write> asked: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn choose(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let pixel = flat_index(wid, nwg, lid.x);
    if pixel < params.n {
        let start = pixel + pixel / params.plane * (params.c - 1u) * params.plane;
        var best = 0u;
        for (var c = 1u; c < params.n_old; c++) {
            if x[start + c * params.plane] > x[start + best * params.plane] {
                best = c;
            }
        }
        let largest = x[start + best * params.plane];
        // u = (ln Σ e − Σ e·(x − largest)/Σ e) / ln K with e = exp(x − largest)
        var total = 0.0;
        var weighted = 0.0;
        for (var c = 0u; c < params.n_old; c++) {
            let below = x[start + c * params.plane] - largest;
            let e = exp(below);
            total += e;
            weighted += e * below;
        }
        let entropy = (log(total) - weighted / total) / log(max(f32(params.n_old), 2.0));
        let is_asked = labels[pixel] < params.n_old;
        let is_accepted = is_asked && entropy < thresholds[best];
        y[pixel] = select(labels[pixel], select(IGNORE, best, is_accepted), is_asked);
        accepted[pixel] = select(0.0, 1.0, is_accepted);
        asked[pixel] = select(0.0, 1.0, is_asked);
    }
}

@group(0) @binding(0) var<storage, read> n_accepted: array<f32>;
@group(0) @binding(1) var<storage, read> n_asked: array<f32>;
@group(0) @binding(2) var<storage, read_write> factor: array<f32>;

@compute @workgroup_size(WG)
fn share(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) lid: vec3<u32>) {
    let image = flat_index(wid, nwg, lid.x);
    if image < params.n {
        factor[image] = select(n_accepted[image] / max(n_asked[image], 1.0), 1.0, n_asked[image] == 0.0);
    }
}
