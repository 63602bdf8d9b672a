//! ONNX (<https://onnx.ai/onnx/repo-docs/IR.html>): a file of one graph, whose messages are those of `onnx.proto3`.

use super::steps::{Add, steps};
use super::wire::Message;
use super::{Export, Head};
use crate::error::Result;
use crate::nn::LayerSpec;
use std::collections::BTreeMap;

/// Of the file format: the one that came with the opset.
const IR_VERSION: i64 = 8;
const OPSET: i64 = 17;

// TensorProto.DataType.
const FLOAT: i64 = 1;
const INT64: i64 = 7;

/// Shorter features are divided by this instead of by their length, as in `Tensor::l2_normalize`.
const LEAST_LENGTH: f32 = 1e-12;

/// A setting of a node.
enum Attribute<'a> {
    Int(i64),
    Ints(&'a [i64]),
    Float(f32),
}

impl Attribute<'_> {
    /// AttributeProto.
    fn named(&self, name: &str) -> Message {
        let message = Message::new().text(1, name);
        match *self {
            Attribute::Float(value) => message.float(2, value).int(20, 1),
            Attribute::Int(value) => message.int(3, value).int(20, 2),
            Attribute::Ints(values) => message.repeated(8, values, |m, field, &value| m.int(field, value)).int(20, 7),
        }
    }
}

/// A graph under way.
#[derive(Default)]
struct Graph {
    nodes: Vec<Message>,
    initializers: Vec<Message>,
    /// Whether something is divided by its length.
    divides: bool,
}

impl Graph {
    /// A node of one result, whose name is returned. Names of layers have no slash, so that this is no tensor's name.
    fn node(&mut self, op: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) -> String {
        let name = format!("/{}/{op}", self.nodes.len());
        self.named(&name, op, inputs, attributes);
        name
    }

    /// NodeProto of a result of this name.
    fn named(&mut self, output: &str, op: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) {
        let node = Message::new()
            .repeated(1, inputs, |m, field, name| m.text(field, name))
            .text(2, output)
            .text(3, output)
            .text(4, op)
            .repeated(5, attributes, |m, field, (name, value)| m.message(field, &value.named(name)));
        self.nodes.push(node);
    }

    /// TensorProto.
    fn tensor(&mut self, name: &str, shape: &[usize], kind: i64, bytes: &[u8]) {
        let tensor = Message::new().repeated(1, shape, |m, field, &size| m.int(field, size as i64));
        self.initializers.push(tensor.int(2, kind).text(8, name).bytes(9, bytes));
    }

    fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensor(name, shape, FLOAT, &bytes);
    }

    /// Numbers that a node takes as an input, whose name is returned.
    fn ints(&mut self, values: &[i64]) -> String {
        let name = format!("/constant/{}", self.initializers.len());
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensor(&name, &[values.len()], INT64, &bytes);
        name
    }

    fn flat(&mut self, x: &str) -> String {
        self.node("Flatten", &[x], &[("axis", Attribute::Int(1))])
    }

    fn max_pool(&mut self, x: &str, size: usize, stride: usize, padding: usize) -> String {
        let (size, stride, pads) = ([size as i64; 2], [stride as i64; 2], [padding as i64; 4]);
        let window = [
            ("kernel_shape", Attribute::Ints(&size)),
            ("strides", Attribute::Ints(&stride)),
            ("pads", Attribute::Ints(&pads)),
        ];
        self.node("MaxPool", &[x], &window)
    }

    /// Rows of length 1.
    fn unit(&mut self, x: &str) -> String {
        if !self.divides {
            self.divides = true;
            self.floats("/head/least_length", &[1], &[LEAST_LENGTH]);
        }
        let along = [("axes", Attribute::Ints(&[1])), ("keepdims", Attribute::Int(1))];
        let length = self.node("ReduceL2", &[x], &along);
        let length = self.node("Max", &[&length, "/head/least_length"], &[]);
        self.node("Div", &[x, &length], &[])
    }

    /// What of x is added to a sum.
    fn subsampled(&mut self, x: &str, [stride, before, after]: [usize; 3]) -> String {
        let (starts, ends) = (self.ints(&[0, 0]), self.ints(&[i64::MAX, i64::MAX]));
        let (axes, steps) = (self.ints(&[2, 3]), self.ints(&[stride as i64; 2]));
        let pixels = self.node("Slice", &[x, &starts, &ends, &axes, &steps], &[]);
        let pads = self.ints(&[0, before as i64, 0, 0, 0, after as i64, 0, 0]);
        self.node("Pad", &[&pixels, &pads], &[])
    }
}

/// The content of the file.
pub(super) fn model(export: &Export) -> Result<Vec<u8>> {
    let mut graph = Graph::default();
    for (name, shape, values) in export.network.parameters.to_host()? {
        graph.floats(name, &shape, &values);
    }
    for (name, values) in export.network.statistics.to_host()? {
        graph.floats(&name, &[values.len()], &values);
    }
    let x = images(export, &mut graph);
    let Values { features, logits, stage } = layers(export, &mut graph, &x);
    for (name, value, n) in
        [("features", features, export.network.n_features), ("logits", logits, export.network.n_outputs)]
    {
        match export.mirrored {
            true => {
                let shape = graph.ints(&[2, -1, n as i64]);
                let pairs = graph.node("Reshape", &[&value, &shape], &[]);
                let mean = [("axes", Attribute::Ints(&[0])), ("keepdims", Attribute::Int(0))];
                graph.named(name, "ReduceMean", &[&pairs], &mean);
            }
            false => graph.named(name, "Identity", &[&value], &[]),
        }
    }
    let features = match (export.map(), stage) {
        (Some(shape), Some(stage)) => with_quarters(export, &mut graph, &stage, shape),
        _ => "features".to_string(),
    };
    scores(export, &mut graph, features);
    Ok(wrap(export, graph).into_bytes())
}

/// What the network gets: normalised, and with the mirror images behind where they count too.
fn images(export: &Export, graph: &mut Graph) -> String {
    let [c, h, w] = export.mean_shape();
    graph.floats("/images/mean", &[1, c, h, w], &export.mean);
    graph.floats("/images/std", &[1, c, 1, 1], &export.std);
    let centred = graph.node("Sub", &["images", "/images/mean"], &[]);
    let x = graph.node("Div", &[&centred, "/images/std"], &[]);
    if !export.mirrored {
        return x;
    }
    let (starts, ends, axes, steps) = (graph.ints(&[-1]), graph.ints(&[i64::MIN]), graph.ints(&[3]), graph.ints(&[-1]));
    let mirror = graph.node("Slice", &[&x, &starts, &ends, &axes, &steps], &[]);
    graph.node("Concat", &[&x, &mirror], &[("axis", Attribute::Int(0))])
}

/// The feature vector and the quarters of a map, each of length 1, side by side.
fn with_quarters(export: &Export, graph: &mut Graph, map: &str, [c, h, w]: [usize; 3]) -> String {
    // Where a side is odd, both halves have its middle.
    let (size, stride) = ([h.div_ceil(2) as i64, w.div_ceil(2) as i64], [(h / 2) as i64, (w / 2) as i64]);
    let window = [("kernel_shape", Attribute::Ints(&size)), ("strides", Attribute::Ints(&stride))];
    let mut means = graph.node("AveragePool", &[map], &window);
    if export.mirrored {
        let shape = graph.ints(&[2, -1, c as i64, 2, 2]);
        let both = graph.node("Reshape", &[&means, &shape], &[]);
        let (zero, one, two, first) = (graph.ints(&[0]), graph.ints(&[1]), graph.ints(&[2]), graph.ints(&[0]));
        let plain = graph.node("Slice", &[&both, &zero, &one, &first], &[]);
        let mirrored = graph.node("Slice", &[&both, &one, &two, &first], &[]);
        let (last, back) = (graph.ints(&[4]), graph.ints(&[-1]));
        let end = graph.ints(&[i64::MIN]);
        let turned = graph.node("Slice", &[&mirrored, &back, &end, &last, &back], &[]);
        means = graph.node("Add", &[&plain, &turned], &[]);
    }
    let shape = graph.ints(&[-1, 4 * c as i64]);
    let rows = graph.node("Reshape", &[&means, &shape], &[]);
    let (own, quarters) = (graph.unit("features"), graph.unit(&rows));
    graph.node("Concat", &[&own, &quarters], &[("axis", Attribute::Int(1))])
}

/// What the layers of a network come to, by name.
struct Values {
    features: String,
    logits: String,
    /// What leaves the stage whose quarters count.
    stage: Option<String>,
}

/// All layers of the network.
fn layers(export: &Export, graph: &mut Graph, images: &str) -> Values {
    let (mut x, mut features) = (images.to_string(), String::new());
    let (mut n_stages, mut stage) = (0, None);
    let mut slots: BTreeMap<usize, String> = BTreeMap::new();
    for step in steps(export.network) {
        if step.arrives.is_map && matches!(step.spec, LayerSpec::Linear { .. } | LayerSpec::Feature {}) {
            x = graph.flat(&x);
        }
        let input = x.as_str();
        x = match &step.spec {
            LayerSpec::Conv { name, kernel, stride, padding, dilation, bias, .. } => {
                let (weight, bias_name) = (format!("{name}.weight"), format!("{name}.bias"));
                let inputs = [input, &weight, &bias_name];
                let twice = |n: &usize| [*n as i64; 2];
                graph.node(
                    "Conv",
                    &inputs[..if *bias { 3 } else { 2 }],
                    &[
                        ("kernel_shape", Attribute::Ints(&twice(kernel))),
                        ("strides", Attribute::Ints(&twice(stride))),
                        ("pads", Attribute::Ints(&[*padding as i64; 4])),
                        ("dilations", Attribute::Ints(&twice(dilation))),
                    ],
                )
            }
            LayerSpec::BatchNorm { name, relu, epsilon, .. } => {
                let own = ["weight", "bias", "running_mean", "running_var"].map(|part| format!("{name}.{part}"));
                let inputs = [input, &own[0], &own[1], &own[2], &own[3]];
                let mut y = graph.node("BatchNormalization", &inputs, &[("epsilon", Attribute::Float(*epsilon))]);
                if let Some((slot, how)) = step.add {
                    let kept = match how {
                        Add::Same => slots[&slot].clone(),
                        Add::Subsampled { stride, before, after } => {
                            graph.subsampled(&slots[&slot], [stride, before, after])
                        }
                    };
                    y = graph.node("Add", &[&y, &kept], &[]);
                }
                if *relu { graph.node("Relu", &[&y], &[]) } else { y }
            }
            LayerSpec::Relu {} => graph.node("Relu", &[input], &[]),
            LayerSpec::MaxPool { size, stride, padding } => {
                graph.max_pool(input, *size, stride.unwrap_or(*size), *padding)
            }
            LayerSpec::GlobalAvgPool {} => {
                let mean = graph.node("GlobalAveragePool", &[input], &[]);
                graph.flat(&mean)
            }
            LayerSpec::Linear { name, .. } => {
                let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
                graph.node("Gemm", &[input, &weight, &bias], &[("transB", Attribute::Int(1))])
            }
            LayerSpec::Keep { slot } => {
                slots.insert(*slot, x.clone());
                x
            }
            LayerSpec::Resume { slot } => slots[slot].clone(),
            LayerSpec::Add { slot } => graph.node("Add", &[input, &slots[slot]], &[]),
            LayerSpec::Feature {} => {
                features = x.clone();
                x
            }
            LayerSpec::Stage {} => {
                n_stages += 1;
                if export.quarters == Some(n_stages) {
                    stage = Some(x.clone());
                }
                x
            }
            LayerSpec::Name { .. } => x,
            LayerSpec::ImagePool {}
            | LayerSpec::Concat { .. }
            | LayerSpec::Resize { .. }
            | LayerSpec::FeatureMap {}
            | LayerSpec::Mean { .. } => {
                unreachable!("bug: such layers are refused before")
            }
        };
    }
    Values { features, logits: x, stage }
}

/// The head, from features and `logits` to `scores`.
fn scores(export: &Export, graph: &mut Graph, mut features: String) {
    for (name, shape, values) in export.head_tensors() {
        graph.floats(&format!("/head/{name}"), &shape, values);
    }
    if export.unit_length && export.head != Head::Network {
        features = graph.unit(&features);
    }
    match &export.head {
        Head::Network => {
            let (starts, ends) = (graph.ints(&[0]), graph.ints(&[export.classes.len() as i64]));
            let axes = graph.ints(&[1]);
            graph.named("scores", "Slice", &["logits", &starts, &ends, &axes], &[]);
        }
        Head::Linear { .. } => {
            let transposed = [("transB", Attribute::Int(1))];
            graph.named("scores", "Gemm", &[&features, "/head/weight", "/head/bias"], &transposed);
        }
        // Differences, and no product: of features close to a mean the product would leave no digits.
        Head::NearestMean { .. } => {
            let middle = graph.ints(&[1]);
            let rows = graph.node("Unsqueeze", &[&features, &middle], &[]);
            let differences = graph.node("Sub", &[&rows, "/head/means"], &[]);
            let along = [("axes", Attribute::Ints(&[2])), ("keepdims", Attribute::Int(0))];
            let distances = graph.node("ReduceL2", &[&differences], &along);
            graph.named("scores", "Neg", &[&distances], &[]);
        }
        Head::Mahalanobis { .. } => {
            let sign = graph.node("Sign", &[&features], &[]);
            let size = graph.node("Abs", &[&features], &[]);
            let root = graph.node("Sqrt", &[&size], &[]);
            let x = graph.node("Mul", &[&sign, &root], &[]);
            let middle = graph.ints(&[1]);
            let rows = graph.node("Unsqueeze", &[&x, &middle], &[]);
            let differences = graph.node("Sub", &[&rows, "/head/means"], &[]);
            // (N, classes, 1, D) by (classes, D, D).
            let row = graph.ints(&[2]);
            let differences = graph.node("Unsqueeze", &[&differences, &row], &[]);
            let scaled = graph.node("MatMul", &[&differences, "/head/factors"], &[]);
            let along = [("axes", Attribute::Ints(&[2, 3])), ("keepdims", Attribute::Int(0))];
            let distances = graph.node("ReduceSumSquare", &[&scaled], &along);
            graph.named("scores", "Neg", &[&distances], &[]);
        }
        Head::Ranpac { .. } => {
            let transposed = [("transB", Attribute::Int(1))];
            let projected = graph.node("Gemm", &[&features, "/head/projection"], &transposed);
            let positive = graph.node("Relu", &[&projected], &[]);
            graph.named("scores", "Gemm", &[&positive, "/head/weight"], &transposed);
        }
    }
}

/// ModelProto around the nodes.
fn wrap(export: &Export, graph: Graph) -> Message {
    let [c, h, w] = export.network.input;
    let outputs = [
        ("features", export.network.n_features),
        ("logits", export.network.n_outputs),
        ("scores", export.classes.len()),
    ];
    let body = Message::new()
        .repeated(1, &graph.nodes, |m, field, node| m.message(field, node))
        .text(2, "engram")
        .repeated(5, &graph.initializers, |m, field, tensor| m.message(field, tensor))
        .text(10, &export.title())
        .message(11, &value_info("images", &[c, h, w]))
        .repeated(12, &outputs, |m, field, (name, n)| m.message(field, &value_info(name, &[*n])));
    let metadata = |key: &str, value: &str| Message::new().text(1, key).text(2, value);
    Message::new()
        .int(1, IR_VERSION)
        .text(2, "engram")
        .text(3, env!("CARGO_PKG_VERSION"))
        .message(7, &body)
        .message(8, &Message::new().text(1, "").int(2, OPSET))
        .message(14, &metadata("classes", &export.class_names()))
}

/// ValueInfoProto of float32 of any number of rows.
fn value_info(name: &str, sizes: &[usize]) -> Message {
    let rows = Message::new().text(2, "N");
    let shape = Message::new()
        .message(1, &rows)
        .repeated(1, sizes, |m, field, &size| m.message(field, &Message::new().int(1, size as i64)));
    let tensor = Message::new().int(1, FLOAT).message(2, &shape);
    Message::new().text(1, name).message(2, &Message::new().message(1, &tensor))
}
