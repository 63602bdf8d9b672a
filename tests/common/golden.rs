//! Reads files of golden numbers and compares a function with them. The format is described in `tests/golden/make_golden.py`.

use engram::device::DType;
use engram::{Device, Result, Tensor};

pub struct Golden<'a> {
    pub name: &'a str,
    inputs: Vec<Numbers<'a>>,
    outputs: Vec<Numbers<'a>>,
    cotangent: Option<Numbers<'a>>,
    gradients: Vec<(usize, Numbers<'a>)>,
}

struct Numbers<'a> {
    dtype: DType,
    shape: Vec<usize>,
    values: Vec<&'a str>,
}

impl Numbers<'_> {
    fn parse<'a>(mut words: impl Iterator<Item = &'a str>) -> Numbers<'a> {
        let dtype = if words.next() == Some("u32") { DType::U32 } else { DType::F32 };
        let shape = words.next().unwrap().split('x').map(|size| size.parse().unwrap()).collect();
        Numbers { dtype, shape, values: words.collect() }
    }

    fn floats(&self) -> Vec<f32> {
        self.values.iter().map(|value| value.parse().unwrap()).collect()
    }

    fn tensor(&self, device: &Device) -> Tensor {
        let shape = engram::shape::Shape::new(&self.shape).unwrap();
        match self.dtype {
            DType::F32 => Tensor::from_f32(device, shape, &self.floats()).unwrap(),
            DType::U32 => {
                let values: Vec<u32> = self.values.iter().map(|value| value.parse().unwrap()).collect();
                Tensor::from_u32(device, shape, &values).unwrap()
            }
        }
    }
}

pub fn parse(text: &str) -> Vec<Golden<'_>> {
    let mut cases: Vec<Golden> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let mut words = line.split_whitespace();
        let kind = words.next().unwrap();
        if kind == "case" {
            let name = words.next().unwrap();
            cases.push(Golden { name, inputs: vec![], outputs: vec![], cotangent: None, gradients: vec![] });
            continue;
        }
        let case = cases.last_mut().unwrap();
        match kind {
            "input" => case.inputs.push(Numbers::parse(words)),
            "output" => case.outputs.push(Numbers::parse(words)),
            "cotangent" => case.cotangent = Some(Numbers::parse(words)),
            "grad" => {
                let input = words.next().unwrap().parse().unwrap();
                case.gradients.push((input, Numbers::parse(words)));
            }
            other => panic!("unknown line '{other}' in a golden file"),
        }
    }
    cases
}

impl Golden<'_> {
    /// Runs `f` on the inputs and compares values and gradients.
    pub fn check(&self, op: &str, f: impl Fn(&[Tensor]) -> Result<Tensor>, device: &Device) {
        let close = |what: &str, got: &[f32], expected: &[f32]| {
            assert_eq!(got.len(), expected.len(), "{op} {}: {what}", self.name);
            let largest = expected.iter().map(|x| x.abs()).fold(0.0, f32::max);
            for (got, expected) in got.iter().zip(expected) {
                assert!(
                    (got - expected).abs() <= 1e-6 + 1e-5 * largest,
                    "{op} {} {what}: {got} instead of {expected}",
                    self.name
                );
            }
        };
        let leaves: Vec<Tensor> = self
            .inputs
            .iter()
            .enumerate()
            .map(|(i, input)| {
                let tensor = input.tensor(device);
                let wanted = self.gradients.iter().any(|(input, _)| *input == i);
                if wanted { tensor.with_gradient() } else { tensor }
            })
            .collect();
        let y = f(&leaves).unwrap();
        let output = &self.outputs[0];
        match output.dtype {
            DType::U32 => assert_eq!(y.to_u32().unwrap(), output.tensor(&Device::cpu()).to_u32().unwrap()),
            DType::F32 => close("output", &y.to_vec().unwrap(), &output.floats()),
        }
        if let Some(cotangent) = &self.cotangent {
            assert!(!self.gradients.is_empty());
            let gradients = y.backward_with(cotangent.tensor(device).array().clone()).unwrap();
            for (input, expected) in &self.gradients {
                let got = gradients.get(&leaves[*input]).unwrap().to_vec().unwrap();
                close(&format!("gradient {input}"), &got, &expected.floats());
            }
        }
    }
}
