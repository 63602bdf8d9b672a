//! Exported models: the bytes of ONNX decode again by another reader of protocol buffers, with every weight in its place and a
//! graph that fits together; PyTorch's folder holds PyTorch's names. `tests/export.py` compares what they answer.

use crate::common::program::{PLAIN, TINY, fails, names, succeeds};
use engram::Device;
use engram::models::export::{Export, Format, Head};
use engram::models::{self, LayerList, Network, OutputKind};
use prost::Message;
use safetensors::SafeTensors;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What of `onnx.proto3` is looked at.
mod proto {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Model {
        #[prost(int64, tag = "1")]
        pub ir_version: i64,
        #[prost(string, tag = "2")]
        pub producer: String,
        #[prost(message, optional, tag = "7")]
        pub graph: Option<Graph>,
        #[prost(message, repeated, tag = "8")]
        pub opsets: Vec<Opset>,
        #[prost(message, repeated, tag = "14")]
        pub metadata: Vec<Entry>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Opset {
        #[prost(int64, tag = "2")]
        pub version: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Entry {
        #[prost(string, tag = "1")]
        pub key: String,
        #[prost(string, tag = "2")]
        pub value: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Graph {
        #[prost(message, repeated, tag = "1")]
        pub nodes: Vec<Node>,
        #[prost(message, repeated, tag = "5")]
        pub initializers: Vec<Tensor>,
        #[prost(message, repeated, tag = "11")]
        pub inputs: Vec<Value>,
        #[prost(message, repeated, tag = "12")]
        pub outputs: Vec<Value>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Node {
        #[prost(string, repeated, tag = "1")]
        pub inputs: Vec<String>,
        #[prost(string, repeated, tag = "2")]
        pub outputs: Vec<String>,
        #[prost(string, tag = "4")]
        pub op: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Tensor {
        #[prost(int64, repeated, tag = "1")]
        pub dims: Vec<i64>,
        #[prost(int32, tag = "2")]
        pub kind: i32,
        #[prost(string, tag = "8")]
        pub name: String,
        #[prost(bytes = "vec", tag = "9")]
        pub raw: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Value {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(message, optional, tag = "2")]
        pub kind: Option<Type>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Type {
        #[prost(message, optional, tag = "1")]
        pub tensor: Option<TensorType>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct TensorType {
        #[prost(int32, tag = "1")]
        pub kind: i32,
        #[prost(message, optional, tag = "2")]
        pub shape: Option<Shape>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Shape {
        #[prost(message, repeated, tag = "1")]
        pub dims: Vec<Dim>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Dim {
        #[prost(int64, optional, tag = "1")]
        pub value: Option<i64>,
        #[prost(string, optional, tag = "2")]
        pub name: Option<String>,
    }
}

const FLOAT: i32 = 1;

fn export(network: &Network, head: Head, n: usize) -> Export<'_> {
    let channels = network.input[0];
    let classes = (0..n).map(|i| format!("class \"{i}\"")).collect();
    Export {
        network,
        mean: vec![0.4; channels],
        std: vec![0.2; channels],
        mirrored: false,
        quarters: None,
        unit_length: true,
        head,
        classes,
    }
}

fn decoded(export: &Export) -> (proto::Model, proto::Graph) {
    let model = proto::Model::decode(&export.files(Format::Onnx).unwrap()[0].1[..]).unwrap();
    let graph = model.graph.clone().unwrap();
    (model, graph)
}

fn shape_of(value: &proto::Value) -> Vec<Option<i64>> {
    let tensor = value.kind.clone().unwrap().tensor.unwrap();
    assert_eq!(tensor.kind, FLOAT);
    tensor.shape.unwrap().dims.iter().map(|dim| dim.value).collect()
}

/// Every result is made once and before it is used, and no initializer is of another size than its shape's.
#[track_caller]
fn fits_together(graph: &proto::Graph) {
    let mut known: BTreeSet<&str> = graph.inputs.iter().map(|input| input.name.as_str()).collect();
    for tensor in &graph.initializers {
        assert!(known.insert(&tensor.name), "{} twice", tensor.name);
        let n: i64 = tensor.dims.iter().product();
        assert_eq!(tensor.raw.len() as i64, n * if tensor.kind == FLOAT { 4 } else { 8 }, "{}", tensor.name);
    }
    for node in &graph.nodes {
        let unknown: Vec<_> = node.inputs.iter().filter(|name| !known.contains(name.as_str())).collect();
        assert!(unknown.is_empty(), "{} takes {unknown:?}", node.op);
        for output in &node.outputs {
            assert!(known.insert(output), "{output} is made twice");
        }
    }
    let used: BTreeSet<&str> = graph.nodes.iter().flat_map(|node| &node.inputs).map(String::as_str).collect();
    for tensor in &graph.initializers {
        assert!(used.contains(tensor.name.as_str()), "{} is not used", tensor.name);
    }
    for output in &graph.outputs {
        assert!(known.contains(output.name.as_str()), "no {}", output.name);
    }
}

#[test]
fn every_model_of_the_table_becomes_a_graph_with_all_its_weights() {
    for spec in models::ALL {
        let network = Network::new(spec.name, spec.input, 7, &Device::cpu(), 3).unwrap();
        if spec.kind == OutputKind::Pixels {
            for format in [Format::Onnx, Format::Torch] {
                let message = export(&network, Head::Network, 4).files(format).unwrap_err().to_string();
                assert!(message.contains(spec.name) && message.contains("cannot be exported"), "{message}");
            }
            continue;
        }
        let (model, graph) = decoded(&export(&network, Head::Network, 4));
        assert_eq!((model.ir_version, model.opsets[0].version, model.producer.as_str()), (8, 17, "engram"));
        assert_eq!(model.metadata[0].value, r#"["class \"0\"","class \"1\"","class \"2\"","class \"3\""]"#);
        fits_together(&graph);

        let [c, h, w] = spec.input.map(|size| Some(size as i64));
        assert_eq!(shape_of(&graph.inputs[0]), [None, c, h, w], "{}: any number of images", spec.name);
        let outputs: Vec<_> = graph.outputs.iter().map(|output| (output.name.as_str(), shape_of(output)[1])).collect();
        let d = Some(network.n_features as i64);
        assert_eq!(outputs, [("features", d), ("logits", Some(7)), ("scores", Some(4))]);

        let tensors: BTreeMap<&str, &proto::Tensor> =
            graph.initializers.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        let bytes = network.to_safetensors().unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        assert!(file.len() > 3);
        for (name, view) in file.tensors() {
            let tensor = tensors[name.as_str()];
            let dims: Vec<usize> = tensor.dims.iter().map(|&size| size as usize).collect();
            assert_eq!((dims.as_slice(), tensor.raw.as_slice()), (view.shape(), view.data()), "{name}");
        }
    }
}

#[test]
fn every_head_has_its_numbers_in_both_formats() {
    let network = Network::new("cnn", [1, 28, 28], 5, &Device::cpu(), 1).unwrap();
    let (n, d, m) = (3, network.n_features, 11);
    let numbers = |n: usize| (0..n).map(|i| i as f32).collect::<Vec<_>>();
    let heads = [
        (Head::Linear { weight: numbers(n * d), bias: numbers(n) }, "weight", "Gemm"),
        (Head::NearestMean { means: numbers(n * d) }, "means", "Neg"),
        (Head::Mahalanobis { means: numbers(n * d), factors: numbers(n * d * d) }, "factors", "Neg"),
        (Head::Ranpac { projection: numbers(d * m), weight: numbers(n * m) }, "projection", "Gemm"),
    ];
    for (head, name, op) in heads {
        for mirrored in [false, true] {
            // A mean image in place of a mean per channel.
            let export = Export { mirrored, mean: numbers(28 * 28), ..export(&network, head.clone(), n) };
            let (_, graph) = decoded(&export);
            fits_together(&graph);
            assert_eq!(
                (graph.nodes.last().unwrap().op.as_str(), graph.nodes.last().unwrap().outputs[0].as_str()),
                (op, "scores")
            );
            assert!(graph.initializers.iter().any(|tensor| tensor.name == format!("/head/{name}")));

            let files = export.files(Format::Torch).unwrap();
            let [source, weights, rest] = &files[..] else { panic!("{} files", files.len()) };
            assert_eq!([source.0, weights.0, rest.0], ["model.py", "model.safetensors", "head.safetensors"]);
            let text = String::from_utf8(source.1.clone()).unwrap();
            assert_eq!(text.contains("flip"), mirrored);
            for name in SafeTensors::deserialize(&rest.1).unwrap().names() {
                assert!(text.contains(&format!("register_buffer(\"{name}\"")), "{name}");
            }
        }
    }
    let wrong = Export { std: vec![1.0; 3], ..export(&network, Head::Network, 2) };
    assert!(wrong.files(Format::Onnx).unwrap_err().to_string().contains("the std"));
    let wrong = export(&network, Head::NearestMean { means: numbers(4) }, 2);
    assert!(wrong.files(Format::Torch).unwrap_err().to_string().contains("the head"));
}

#[test]
fn residual_blocks_become_one_class_whatever_their_width() {
    let network = Network::new("resnet32", [3, 32, 32], 10, &Device::cpu(), 1).unwrap();
    let files = export(&network, Head::Network, 10).files(Format::Torch).unwrap();
    let source = String::from_utf8(files[0].1.clone()).unwrap();
    assert_eq!(source.matches("\nclass ").count(), 3, "Block, Network, Model:\n{source}");
    assert!(source.contains("x = self.layer3(x)") && source.contains("Block(32, 64, 2)"), "{source}");
    let file = SafeTensors::deserialize(&files[1].1).unwrap();
    assert!(file.tensor("bn1.num_batches_tracked").is_ok(), "as PyTorch's own files have it");
    // The file without the counters is what the network reads and writes.
    let path = tempfile::tempdir().unwrap();
    let path = path.path().join("model.safetensors");
    std::fs::write(&path, &files[1].1).unwrap();
    let other = Network::new("resnet32", [3, 32, 32], 10, &Device::cpu(), 2).unwrap();
    other.load_safetensors(&path).unwrap();
    assert_eq!(other.to_safetensors().unwrap(), network.to_safetensors().unwrap());
}

#[test]
fn a_name_that_pytorch_cannot_give_is_refused() {
    for (name, words) in [("train", "every module"), ("_a", "underscore"), ("a..b", "empty")] {
        let text = format!(
            r#"{{"format": 1, "input": [1, 2, 2], "layers": [{{"kind": "linear", "name": "{name}", "out": 3}},
            {{"kind": "feature"}}, {{"kind": "linear", "name": "last"}}]}}"#
        );
        let list = LayerList::from_json(&serde_json::from_str(&text).unwrap(), "net.json").unwrap();
        let network = Network::from_list("net.json", &list, [1, 2, 2], 2, &Device::cpu(), 1).unwrap();
        let export = export(&network, Head::Network, 2);
        let error = export.files(Format::Torch).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains(name), "{error}");
        fits_together(&decoded(&export).1);
    }
}

#[test]
fn the_command_writes_whole_files_and_overwrites_none() {
    let dir = tempfile::tempdir().unwrap();
    succeeds(dir.path(), &format!("icarl {TINY} --out run"));
    let outcome = succeeds(dir.path(), "export run --to onnx --out out/model.onnx");
    assert_eq!((outcome.out.as_str(), outcome.err.as_str()), ("out/model.onnx\n", ""));
    let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
    let model = proto::Model::decode(&read("out/model.onnx")[..]).unwrap();
    assert!(model.graph.unwrap().initializers.iter().any(|tensor| tensor.name == "/head/means"), "the method's own");
    fails(dir.path(), "export run --to onnx --out out/model.onnx", 2, &["out/model.onnx exists", "--force"]);
    fails(dir.path(), "export run --to onnx --out out --force", 2, &["--out out", "a folder"]);
    fails(dir.path(), "export run --to torch --out out/model.onnx --force", 2, &["a file"]);
    succeeds(dir.path(), "export run --to onnx --out out/model.onnx --force --classifier network");
    succeeds(dir.path(), "export run --to onnx --out run/model.onnx");
    succeeds(dir.path(), "export run --to onnx --out run/model.onnx --force");
    // The module's numbers have the name of the run's own.
    fails(dir.path(), "export run --to torch --out run --force", 2, &["run/model.safetensors is what is exported"]);
    let model = proto::Model::decode(&read("out/model.onnx")[..]).unwrap();
    assert!(model.graph.unwrap().initializers.iter().all(|tensor| !tensor.name.starts_with("/head")));

    succeeds(dir.path(), "export run --to torch --out torch");
    assert_eq!(names(dir.path().join("torch")), ["head.safetensors", "model.py", "model.safetensors"]);
    fails(dir.path(), "export run --to torch --out torch", 2, &["exists"]);
    fails(dir.path(), "export run --to onnx --out a.onnx --classifier best", 2, &["best", "nme, network, ncm"]);
    fails(dir.path(), "export run --to tensorflow --out a", 2, &["tensorflow"]);
    fails(dir.path(), "export nowhere --to onnx --out a.onnx", 2, &["nowhere", "no such run"]);
    assert!(!Path::new(&dir.path().join("a.onnx")).exists());
}

/// Its first outputs are those of one class in its quarter turns, not of the first classes.
#[test]
fn a_network_of_several_outputs_a_class_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    succeeds(dir.path(), &format!("dfd {PLAIN} --scenario task --max-tasks 1 --rotations true --out run"));
    fails(dir.path(), "export run --to onnx --out a.onnx", 2, &["4 outputs for each class", "--rotations"]);
    assert!(!dir.path().join("a.onnx").exists());
}

/// What tells a learner's classes apart is exported as well: a regression on the features of pictures and their mirrors, or means.
#[test]
fn a_learner_is_exported_by_its_method() {
    let dir = tempfile::tempdir().unwrap();
    for class in 0..2u8 {
        for i in 0..6u8 {
            let path = dir.path().join(format!("pictures/class{class}"));
            std::fs::create_dir_all(&path).unwrap();
            let pixel = |x: u32, y: u32| image::Rgb([200 * class + 5 * i, (8 * x) as u8, (8 * y) as u8 / (i + 1)]);
            image::RgbImage::from_fn(32, 32, pixel).save(path.join(format!("{i}.png"))).unwrap();
        }
    }
    for (method, tensors) in [
        ("ranpac", &["/head/least_length", "/head/projection", "/head/weight"][..]),
        ("ncm", &["/head/least_length", "/head/means"]),
        ("fecam", &["/head/factors", "/head/least_length", "/head/means"]),
    ] {
        succeeds(dir.path(), &format!("learn {method}.engram --from pictures --method {method} --device cpu"));
        succeeds(dir.path(), &format!("export {method}.engram --to onnx --out {method}.onnx"));
        let bytes = std::fs::read(dir.path().join(format!("{method}.onnx"))).unwrap();
        let model = proto::Model::decode(&bytes[..]).unwrap();
        assert_eq!(model.metadata[0].value, r#"["class0","class1"]"#);
        let graph = model.graph.unwrap();
        fits_together(&graph);
        let mut head: Vec<&str> = graph.initializers.iter().map(|tensor| tensor.name.as_str()).collect();
        head.retain(|name| name.starts_with("/head"));
        head.sort_unstable();
        assert_eq!(head, tensors);
        assert!(graph.nodes.iter().any(|node| node.op == "Concat"), "the mirror images count too");
        assert!(graph.nodes.iter().any(|node| node.op == "AveragePool"), "and the quarters of an earlier map");
    }
    fails(dir.path(), "export ncm.engram --to torch --out a --classifier nme", 2, &["--classifier has no effect"]);
}
