//! Networks from elsewhere as backbones: torchvision's, by the names of their tensors.

use engram::data::pictures::Frame;
use engram::models::{Options, Stem};
use engram::ops::Mode;
use engram::session::{Backbone, Picture, Session, Settings};
use engram::{Device, Error, Tensor};
use safetensors::tensor::{Dtype, TensorView};
use std::collections::BTreeMap;
use std::path::Path;

/// A tensor's name, its shape, its bytes.
type Tensors = BTreeMap<String, (Vec<usize>, Vec<u8>)>;

/// `n` numbers in 0..1, as `tests/golden/make_torchvision.py` makes them.
fn mixed(stream: u32, n: usize) -> impl Iterator<Item = f64> {
    (0..n as u32).map(move |i| {
        let mut x = i.wrapping_mul(0x9E37_79B1).wrapping_add(stream.wrapping_mul(0x85EB_CA77));
        x ^= x >> 15;
        x = x.wrapping_mul(0x2C1B_3C6D);
        x ^= x >> 12;
        x = x.wrapping_mul(0x297A_2D39);
        x ^= x >> 15;
        f64::from(x) / 2f64.powi(32)
    })
}

fn values(stream: u32, name: &str, shape: &[usize]) -> Vec<f32> {
    let n = shape.iter().product();
    let fan_in: usize = shape.iter().skip(1).product();
    let value = |u: f64| match () {
        () if name.ends_with("bn2.weight") => 0.2 + 0.2 * u,
        () if name.ends_with("running_var") || shape.len() == 1 && name.ends_with("weight") => 0.5 + u,
        () if shape.len() == 4 => (u - 0.5) * (12.0 / fan_in as f64).sqrt(),
        () => (u - 0.5) * 0.2,
    };
    mixed(stream, n).map(|u| value(u) as f32).collect()
}

/// Shapes of the tensors of torchvision's networks of basic blocks, `width` channels in the first stage.
fn shapes(blocks: [usize; 4], width: usize, n_classes: usize) -> BTreeMap<String, Vec<usize>> {
    let mut all = BTreeMap::new();
    let norm = |name: &str, n: usize, all: &mut BTreeMap<String, Vec<usize>>| {
        for part in ["weight", "bias", "running_mean", "running_var"] {
            all.insert(format!("{name}.{part}"), vec![n]);
        }
    };
    all.insert("conv1.weight".into(), vec![width, 3, 7, 7]);
    norm("bn1", width, &mut all);
    let mut c_in = width;
    for (i, n) in blocks.into_iter().enumerate() {
        let c = width << i;
        for block in 0..n {
            let name = format!("layer{}.{block}", i + 1);
            all.insert(format!("{name}.conv1.weight"), vec![c, c_in, 3, 3]);
            all.insert(format!("{name}.conv2.weight"), vec![c, c, 3, 3]);
            norm(&format!("{name}.bn1"), c, &mut all);
            norm(&format!("{name}.bn2"), c, &mut all);
            if c != c_in {
                all.insert(format!("{name}.downsample.0.weight"), vec![c, c_in, 1, 1]);
                norm(&format!("{name}.downsample.1"), c, &mut all);
            }
            c_in = c;
        }
    }
    all.insert("fc.weight".into(), vec![n_classes, c_in]);
    all.insert("fc.bias".into(), vec![n_classes]);
    all
}

fn tensors(blocks: [usize; 4], width: usize) -> Tensors {
    let all = shapes(blocks, width, 5);
    let tensor = |(stream, (name, shape)): (usize, (String, Vec<usize>))| {
        let bytes = values(stream as u32, &name, &shape).into_iter().flat_map(f32::to_le_bytes).collect();
        (name, (shape, bytes))
    };
    all.into_iter().enumerate().map(tensor).collect()
}

fn write(tensors: &Tensors, path: &Path) {
    let views = tensors
        .iter()
        .map(|(name, (shape, bytes))| (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// The two pictures of `make_torchvision.py`: noise and a slope.
fn pixels() -> [Vec<u8>; 2] {
    let noise: Vec<u8> = mixed(1000, 3 * 224 * 224).map(|u| (256.0 * u) as u8).collect();
    let slope = (0..3 * 224 * 224).map(|at| ((at / 224 % 224 + at % 224) / 2) as u8).collect();
    [noise, slope]
}

#[test]
fn features_are_those_of_torchvision() {
    let golden = include_str!("../golden/torchvision.json");
    let golden: serde_json::Value = serde_json::from_str(golden).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (name, blocks) in [("resnet18", [2, 2, 2, 2]), ("resnet34", [3, 4, 6, 3])] {
        let path = dir.path().join(format!("{name}.safetensors"));
        write(&tensors(blocks, 64), &path);
        let backbone = Backbone::open(path.to_str().unwrap(), &Device::cpu()).unwrap();
        assert_eq!((backbone.name(), backbone.network().input), (name, [3, 224, 224]));
        let (mean, std) = backbone.normalization();
        assert_eq!((mean, std), (&[0.485, 0.456, 0.406][..], &[0.229, 0.224, 0.225][..]));
        for (row, pixels) in pixels().iter().enumerate() {
            let channel = |at: usize| at / (224 * 224);
            let x: Vec<f32> = pixels
                .iter()
                .enumerate()
                .map(|(at, &p)| (f32::from(p) / 255.0 - mean[channel(at)]) / std[channel(at)])
                .collect();
            let x = Tensor::from_f32(&Device::cpu(), [1, 3, 224, 224], &x).unwrap();
            let features = backbone.network().forward(&x, Mode::Eval).unwrap().features.to_vec().unwrap();
            assert_eq!(features.len(), 512);
            for (i, expected) in golden[name][row].as_array().unwrap().iter().enumerate() {
                let expected = expected.as_f64().unwrap() as f32;
                let apart = (features[i] - expected).abs();
                assert!(apart <= 1e-4, "{name}, picture {row}, feature {i}: {} is not {expected}", features[i]);
            }
        }
    }
}

#[test]
fn the_large_stem_is_that_of_torchvision() {
    let options = Options { stem: Stem::Large, ..Options::default() };
    for (name, n) in [("resnet18", 11_689_512), ("resnet34", 21_797_672)] {
        let layers = engram::models::spec(name).unwrap().layers([3, 224, 224], 1000, &options).unwrap();
        assert_eq!(layers.iter().map(|layer| layer.n_parameters).sum::<usize>(), n, "{name}");
        let pool = layers.iter().find(|layer| layer.what.starts_with("max-pool")).unwrap();
        assert_eq!((pool.what.as_str(), pool.shape), ("max-pool 3 /2", [64, 56, 56]));
    }
}

/// A narrow network of the same names keeps the test short.
#[test]
fn a_learner_goes_by_a_file_of_torchvision_and_holds_it() {
    let dir = tempfile::tempdir().unwrap();
    let (path, learner) = (dir.path().join("narrow.safetensors"), dir.path().join("a.engram"));
    write(&tensors([2, 2, 2, 2], 4), &path);
    let mut session =
        Session::new(Backbone::open(path.to_str().unwrap(), &Device::cpu()).unwrap(), Settings::default()).unwrap();
    let [noise, slope] = pixels();
    let picture = |pixels: &[u8], i: usize| {
        let mut pixels = pixels.to_vec();
        pixels.rotate_right(3 * i);
        Picture { name: format!("{i}.png"), pixels }
    };
    for (class, pixels) in [("noise", &noise), ("slope", &slope)] {
        session.learn((0..3).map(|i| (picture(pixels, i), class.to_string())).collect()).unwrap();
    }
    session.save(&learner).unwrap();
    std::fs::remove_file(&path).unwrap();
    let session = Session::load(&learner, &Device::cpu()).unwrap();
    // Files are looked at as torchvision does: of 256 pixels the middle 224.
    assert_eq!(session.frame(), Frame { shape: [3, 224, 224], of_height: 256 });
    let file = dir.path().join("large.png");
    let large = image::RgbImage::from_fn(256, 256, |x, y| image::Rgb([x as u8, y as u8, (x ^ y) as u8]));
    large.save(&file).unwrap();
    let read = Picture::read(&file, session.frame()).unwrap();
    let (x, y) = (100, 7);
    let expected = large.get_pixel(16 + x, 16 + y).0;
    let at = |channel: usize| read.pixels[channel * 224 * 224 + y as usize * 224 + x as usize];
    assert_eq!([at(0), at(1), at(2)], expected);
    let answers = session.classify(&[picture(&slope, 9), picture(&noise, 9)]).unwrap();
    let said: Vec<&str> =
        answers.iter().map(|answer| session.classes()[answer.ranked[0].label].name.as_str()).collect();
    assert_eq!(said, ["slope", "noise"]);
}

#[test]
fn other_files_are_refused_with_what_would_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("net.safetensors");
    let refused = |change: &dyn Fn(&mut Tensors), parts: &[&str]| {
        let mut all = tensors([2, 2, 2, 2], 4);
        change(&mut all);
        write(&all, &path);
        let error = match Backbone::open(path.to_str().unwrap(), &Device::cpu()) {
            Ok(_) => panic!("{parts:?} was taken"),
            Err(error) => error,
        };
        assert!(matches!(error, Error::File { .. }), "{error:?}");
        parts.iter().for_each(|part| assert!(error.to_string().contains(part), "{error}"));
    };
    let with = |name: &str, shape: Vec<usize>| {
        let bytes = vec![0; 4 * shape.iter().product::<usize>()];
        let name = name.to_string();
        move |all: &mut Tensors| drop(all.insert(name.clone(), (shape.clone(), bytes.clone())))
    };
    refused(&with("layer1.0.conv3.weight", vec![4, 4, 1, 1]), &["bottleneck", "ResNet-18 or ResNet-34"]);
    refused(&with("conv1.weight", vec![4, 3, 3, 3]), &["7×7"]);
    refused(&with("layer2.0.conv1.weight", vec![9, 4, 3, 3]), &["'layer2.0.conv1.weight' has shape"]);
    refused(&with("other.weight", vec![1]), &["'other.weight'"]);
    refused(&|all| drop(all.remove("fc.weight")), &["'fc.weight' is missing"]);
    refused(&|all| drop(all.remove("layer4.1.bn2.bias")), &["'layer4.1.bn2.bias' is missing"]);
    std::fs::write(&path, b"PK").unwrap();
    let error = Backbone::open(path.to_str().unwrap(), &Device::cpu()).map(drop).unwrap_err().to_string();
    assert!(error.contains("no safetensors file") && error.contains("ResNet-18"), "{error}");
}
