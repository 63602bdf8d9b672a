//! Functions of one element: relu, sigmoid, exp, log, sqrt. The formulas stand once here and once in `shaders/<op>.wgsl`.

use super::case::{Case, EDGES, Fill, Input, Op, Tolerance};
use super::map::{Map, each, each_gradient};
use crate::device::{Kernel, PRELUDE, Workgroup};
use crate::error::Result;
use crate::tensor::Tensor;

const MAP: &str = include_str!("../../shaders/map.wgsl");

const fn forward(name: &'static str, source: &'static [&'static str]) -> Kernel {
    Kernel { name, source, entry: "forward", bindings: "rw", workgroup: Workgroup::Flat, constants: &[] }
}
const fn backward(name: &'static str, source: &'static [&'static str]) -> Kernel {
    Kernel { name, source, entry: "backward", bindings: "rrrw", workgroup: Workgroup::Flat, constants: &[] }
}

impl Tensor {
    /// y = max(x, 0), any shape. dy/dx is 1 for x > 0 and 0 for x ≤ 0: at the kink it is 0, as in PyTorch. So is this: NaN
    /// stays NaN, with a derivative of 1.
    ///
    /// # Errors
    /// If the input holds labels.
    pub fn relu(&self) -> Result<Tensor> {
        RELU_MAP.apply(self)
    }

    /// y = 1 / (1 + e⁻ˣ), any shape. dy/dx = y·(1 − y).
    ///
    /// # Errors
    /// If the input holds labels.
    pub fn sigmoid(&self) -> Result<Tensor> {
        SIGMOID_MAP.apply(self)
    }

    /// y = eˣ, any shape; overflows to inf above 88.7. dy/dx = y.
    ///
    /// # Errors
    /// If the input holds labels.
    pub fn exp(&self) -> Result<Tensor> {
        EXP_MAP.apply(self)
    }

    /// y = ln x for x > 0, any shape. dy/dx = 1/x.
    ///
    /// # Errors
    /// If the input holds labels.
    pub fn log(&self) -> Result<Tensor> {
        LOG_MAP.apply(self)
    }

    /// y = √x for x ≥ 0, any shape. dy/dx = 1/(2y), and 0 at 0: equal points do not pull at each other.
    ///
    /// # Errors
    /// If the input holds labels.
    pub fn sqrt(&self) -> Result<Tensor> {
        SQRT_MAP.apply(self)
    }
}

/// 1 / (1 + e⁻ˣ) without overflow: e is only raised to numbers ≤ 0.
pub fn sigmoid(x: f32) -> f32 {
    let e = (-x.abs()).exp();
    if x >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }
}

const RELU_SOURCE: &[&str] = &[PRELUDE, MAP, include_str!("../../shaders/relu.wgsl")];
static RELU_FORWARD: Kernel = forward("relu.forward", RELU_SOURCE);
static RELU_BACKWARD: Kernel = backward("relu.backward", RELU_SOURCE);
static RELU_MAP: Map = Map {
    name: "relu",
    // f(x) = max(x, 0)
    f: |x, y| each(x, y, |x| if x <= 0.0 { 0.0 } else { x }),
    // f′ = 0 if y ≤ 0, else 1
    df: |dy, x, y, dx| each_gradient(dy, x, y, dx, |_, y| if y <= 0.0 { 0.0 } else { 1.0 }),
    forward: &RELU_FORWARD,
    backward: &RELU_BACKWARD,
};

const SIGMOID_SOURCE: &[&str] = &[PRELUDE, MAP, include_str!("../../shaders/sigmoid.wgsl")];
static SIGMOID_FORWARD: Kernel = forward("sigmoid.forward", SIGMOID_SOURCE);
static SIGMOID_BACKWARD: Kernel = backward("sigmoid.backward", SIGMOID_SOURCE);
static SIGMOID_MAP: Map = Map {
    name: "sigmoid",
    f: |x, y| each(x, y, sigmoid),
    // f′ = y·(1 − y)
    df: |dy, x, y, dx| each_gradient(dy, x, y, dx, |_, y| y * (1.0 - y)),
    forward: &SIGMOID_FORWARD,
    backward: &SIGMOID_BACKWARD,
};

const EXP_SOURCE: &[&str] = &[PRELUDE, MAP, include_str!("../../shaders/exp.wgsl")];
static EXP_FORWARD: Kernel = forward("exp.forward", EXP_SOURCE);
static EXP_BACKWARD: Kernel = backward("exp.backward", EXP_SOURCE);
static EXP_MAP: Map = Map {
    name: "exp",
    f: |x, y| each(x, y, f32::exp),
    // f′ = y
    df: |dy, x, y, dx| each_gradient(dy, x, y, dx, |_, y| y),
    forward: &EXP_FORWARD,
    backward: &EXP_BACKWARD,
};

const LOG_SOURCE: &[&str] = &[PRELUDE, MAP, include_str!("../../shaders/log.wgsl")];
static LOG_FORWARD: Kernel = forward("log.forward", LOG_SOURCE);
static LOG_BACKWARD: Kernel = backward("log.backward", LOG_SOURCE);
static LOG_MAP: Map = Map {
    name: "log",
    f: |x, y| each(x, y, f32::ln),
    // f′ = 1/x
    df: |dy, x, y, dx| each_gradient(dy, x, y, dx, |x, _| 1.0 / x),
    forward: &LOG_FORWARD,
    backward: &LOG_BACKWARD,
};

const SQRT_SOURCE: &[&str] = &[PRELUDE, MAP, include_str!("../../shaders/sqrt.wgsl")];
static SQRT_FORWARD: Kernel = forward("sqrt.forward", SQRT_SOURCE);
static SQRT_BACKWARD: Kernel = backward("sqrt.backward", SQRT_SOURCE);
static SQRT_MAP: Map = Map {
    name: "sqrt",
    f: |x, y| each(x, y, f32::sqrt),
    // f′ = 1/(2y), 0 at 0
    df: |dy, x, y, dx| each_gradient(dy, x, y, dx, |_, y| if y > 0.0 { 0.5 / y } else { 0.0 }),
    forward: &SQRT_FORWARD,
    backward: &SQRT_BACKWARD,
};

/// An op of one element refuses labels.
macro_rules! refuses {
    ($op:ident) => {
        |device| Tensor::from_u32(device, [2], &[1, 2])?.$op()
    };
}

pub static RELU: Op = Op {
    name: "relu",
    formula: "y = max(x, 0)",
    shaders: &["relu", "map"],
    kernels: &[&RELU_FORWARD, &RELU_BACKWARD],
    gradient: true,
    cases: || {
        vec![
            Case::new("with_zeros", vec![Input::new([7, 33], Fill::AwayFromZero)], |x| x[0].relu()),
            Case::new("edges", vec![Input::new([29], Fill::Values(EDGES))], |x| x[0].relu()).without_differences(),
            Case::new("not_a_number", vec![Input::new([7], Fill::Values(&[f32::NAN, -1.0, 2.0]))], |x| x[0].relu())
                .without_differences(),
        ]
    },
    refuses: refuses!(relu),
};

pub static SIGMOID: Op = Op {
    name: "sigmoid",
    formula: "y = 1 / (1 + exp(−x))",
    shaders: &["sigmoid", "map"],
    kernels: &[&SIGMOID_FORWARD, &SIGMOID_BACKWARD],
    gradient: true,
    cases: || {
        let run = |x: &[Tensor]| x[0].sigmoid();
        vec![
            Case::new("moderate", vec![Input::new([3, 5, 7], Fill::Uniform(-4.0, 4.0))], run)
                .tolerance(Tolerance::Exponential),
            Case::new("extreme", vec![Input::new([29], Fill::Values(EDGES))], run)
                .tolerance(Tolerance::Exponential)
                .without_differences(),
        ]
    },
    refuses: refuses!(sigmoid),
};

pub static EXP: Op = Op {
    name: "exp",
    formula: "y = exp(x)",
    shaders: &["exp", "map"],
    kernels: &[&EXP_FORWARD, &EXP_BACKWARD],
    gradient: true,
    cases: || {
        vec![
            Case::new("moderate", vec![Input::new([101], Fill::Uniform(-3.0, 3.0))], |x| x[0].exp())
                .tolerance(Tolerance::Exponential),
            Case::new("edges", vec![Input::new([29], Fill::Values(EDGES))], |x| x[0].exp())
                .tolerance(Tolerance::Exponential)
                .without_differences(),
        ]
    },
    refuses: refuses!(exp),
};

pub static LOG: Op = Op {
    name: "log",
    formula: "y = ln x",
    shaders: &["log", "map"],
    kernels: &[&LOG_FORWARD, &LOG_BACKWARD],
    gradient: true,
    cases: || {
        let values: &[f32] = &[1e-30, 1e-3, 1.0, std::f32::consts::E, 20.0, 100.0, 1e4, 1e30];
        vec![
            Case::new("positive", vec![Input::new([5, 13], Fill::Uniform(0.7, 4.0))], |x| x[0].log())
                .tolerance(Tolerance::Exponential),
            Case::new("edges", vec![Input::new([8], Fill::Values(values))], |x| x[0].log())
                .tolerance(Tolerance::Exponential)
                .without_differences(),
        ]
    },
    refuses: refuses!(log),
};

pub static SQRT: Op = Op {
    name: "sqrt",
    formula: "y = √x",
    shaders: &["sqrt", "map"],
    kernels: &[&SQRT_FORWARD, &SQRT_BACKWARD],
    gradient: true,
    cases: || {
        let values: &[f32] = &[0.0, 1e-20, 1e-3, 1.0, 2.0, 20.0, 100.0, 1e4, 1e30];
        vec![
            Case::new("positive", vec![Input::new([5, 13], Fill::Uniform(0.7, 4.0))], |x| x[0].sqrt()),
            Case::new("edges", vec![Input::new([9], Fill::Values(values))], |x| x[0].sqrt()).without_differences(),
        ]
    },
    refuses: refuses!(sqrt),
};
