//! Floor 2: the op table. One file per op: what it computes, its derivative, the CPU loops, the kernels, the backward
//! node and its test cases; the same mathematics in WGSL under the same name in `shaders/`.
//!
//! [`ALL`] drives everything that must hold for every op: values against PyTorch, gradients against finite differences,
//! the GPU against the CPU, repeatability, refusal of wrong input, `engram check`, `engram bench op`, the table in `docs/ops.md`.

mod argmin;
mod attention_map;
mod avg_pool2d;
mod batch_norm;
mod bce_with_logits;
mod bias_add;
mod case;
mod channel_sum;
mod channels;
mod check;
mod confusion;
mod conv2d;
mod coop;
mod cross_entropy;
mod filters;
mod gather_rows;
mod gemm;
mod global_avg_pool;
mod gradient_scale;
mod gram;
mod herding;
mod image_batch;
mod importance;
mod kl_div;
mod l2_normalize;
mod lerp_channels;
mod linear;
mod log_softmax;
mod map;
mod matmul;
mod max_pool2d;
mod mixed_targets;
mod mse;
mod optimizer_steps;
mod over_positive_mean;
mod pair_differences;
mod pair_loss;
mod partial_mse;
mod penalty;
mod pixel_cross_entropy;
mod pixel_distillation;
mod project;
mod pseudo_labels;
mod quarter_turns;
mod reshape;
mod resize_bilinear;
mod row_loss;
mod row_sum;
mod scale;
mod scatter_rows;
mod share_of_labels;
mod smooth_l1;
mod softmax;
mod squared_distances;
mod sum;
mod target_log_odds;
mod threads;
mod tiles;
mod to_pixels;
mod unary;
mod variational_bound;
mod wide;
mod zip;

pub use avg_pool2d::Windows;
pub use batch_norm::{BatchNorm, Mode, residual_fits};
pub use case::{Case, Fill, Input, Op, Tolerance};
pub use check::{Comparison, compare, run_with_gradients};
pub use confusion::count_confusion;
pub use conv2d::Conv2d;
pub use conv2d::candidates as conv2d_candidates;
pub use filters::{FilterRun, Filters};
pub use gradient_scale::GradientScale;
pub use image_batch::{Draw, Normalization, image_batch};
pub use importance::{add_magnitudes, add_path, add_squares};
pub use matmul::candidates as matmul_candidates;
pub use max_pool2d::pooled;
pub use optimizer_steps::{AdamStep, SgdStep, adam_step, sgd_step};
pub use penalty::{add_penalty_gradient, penalty};
pub use pixel_cross_entropy::IGNORE;
pub use project::project;
pub use pseudo_labels::PseudoLabels;
pub use quarter_turns::quarter_turns;
pub use scatter_rows::scatter_rows;
pub use tiles::Candidate;

/// Every kernel by tiles in shared memory that products and convolutions may choose on an adapter with so many bytes of it.
pub fn tile_kernels(shared_bytes: usize) -> Vec<&'static crate::device::Kernel> {
    [matmul::tile_kernels(shared_bytes), conv2d::tile_kernels(shared_bytes)].concat()
}

/// Those that take their place where products run on units for small matrices.
pub fn matrix_kernels(matrices: crate::device::Matrices, shared_bytes: usize) -> Vec<&'static crate::device::Kernel> {
    [matmul::matrix_kernels(matrices, shared_bytes), conv2d::matrix_kernels(matrices, shared_bytes)].concat()
}

/// Every op, in reading order.
pub static ALL: &[&Op] = &[
    &zip::ADD,
    &zip::SUB,
    &zip::MUL,
    &scale::OP,
    &unary::RELU,
    &unary::SIGMOID,
    &unary::EXP,
    &unary::LOG,
    &unary::SQRT,
    &bias_add::OP,
    &lerp_channels::OP,
    &sum::SUM,
    &sum::MEAN,
    &row_sum::ROW_SUM,
    &row_sum::ROW_MEAN,
    &channel_sum::OP,
    &matmul::OP,
    &linear::OP,
    &conv2d::OP,
    &conv2d::folded::OP,
    &batch_norm::OP,
    &max_pool2d::OP,
    &global_avg_pool::OP,
    &avg_pool2d::OP,
    &resize_bilinear::OP,
    &channels::CONCAT,
    &channels::NARROW,
    &to_pixels::TO,
    &to_pixels::FROM,
    &l2_normalize::OP,
    &softmax::OP,
    &log_softmax::OP,
    &cross_entropy::OP,
    &pixel_cross_entropy::OP,
    &share_of_labels::OP,
    &kl_div::OP,
    &pixel_distillation::OP,
    &bce_with_logits::OP,
    &mixed_targets::OP,
    &mse::OP,
    &smooth_l1::OP,
    &partial_mse::OP,
    &target_log_odds::OP,
    &variational_bound::OP,
    &attention_map::OP,
    &squared_distances::OP,
    &over_positive_mean::OP,
    &pair_differences::OP,
    &gram::OP,
    &argmin::ARGMIN,
    &argmin::ARGMAX,
    &confusion::OP,
    &pseudo_labels::OP,
    &gather_rows::OP,
    &herding::OP,
    &image_batch::OP,
    &quarter_turns::OP,
    &optimizer_steps::SGD,
    &optimizer_steps::ADAM,
    &gradient_scale::OP,
    &penalty::OP,
    &filters::OP,
    &importance::OP,
    &project::OP,
    &scatter_rows::OP,
];
