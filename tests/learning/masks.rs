//! Images with a class for each pixel: which labels a task sees, what a batch holds, folders of masks that are as they should be and
//! that are not, and the scores of segmentation by hand.

use crate::common::program::{fails, succeeds};
use engram::data::source::channel_statistics;
use engram::data::{
    Augment, Augmentation, ClassOrder, Dataset, Draw, Fingerprint, Images, LoadOptions, Membership, NO_LABEL,
    Normalize, Plan, Scenario, Source, Split, Steps, Target, TaskStream, VOID, gather, gather_labels,
};
use engram::experiment::metrics::{intersection_over_union, mean_iou, pixel_accuracy};
use engram::ops::{Normalization, image_batch};
use engram::rng::{Purpose, Rng};
use engram::{Device, Tensor};
use image::{GrayImage, Luma, Rgb, RgbImage};
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

/// Images of 2×2 with these masks, one domain after the other.
fn dataset(masks: &[[u8; 4]], domains: &[u32]) -> Dataset {
    let images = Arc::new(Images {
        channels: 1,
        height: 2,
        width: 2,
        pixels: masks.concat(),
        labels: domains.to_vec(),
        views: Vec::new(),
        masks: masks.concat(),
    });
    Dataset {
        name: "tiny".into(),
        class_names: ["ground", "a", "b", "c"].map(String::from).to_vec(),
        train: images.clone(),
        test: images,
        mean: vec![0.0],
        std: vec![1.0],
        flips: false,
        notes: Vec::new(),
        left_out: Vec::new(),
        domains: (0..=domains.iter().copied().max().unwrap()).map(|i| format!("domain {i}")).collect(),
    }
}

/// Image 0 has a, 1 has b, 2 has a and b, 3 has a and c, 4 has the ground alone, 5 has c and void.
fn five() -> Dataset {
    let masks = [[0, 1, 1, 0], [0, 2, 2, 2], [1, 2, 0, 0], [3, 1, 0, 0], [0, 0, 0, VOID], [3, VOID, 3, 0]];
    dataset(&masks, &[0, 0, 1, 1, 2, 2])
}

fn stream(split: &Split) -> TaskStream {
    split.tasks(&five()).unwrap().1
}

fn steps(text: &str) -> Option<Steps> {
    Some(text.parse().unwrap())
}

#[test]
fn an_overlapped_task_has_every_image_with_a_pixel_of_its_classes() {
    let split = Split { steps: steps("1-1"), ..Split::default() };
    let stream = stream(&split);
    let train: Vec<&[u32]> = stream.tasks.iter().map(|task| task.train.as_slice()).collect();
    assert_eq!(train, [&[0, 2, 3][..], &[1, 2], &[3, 5]]);
    let classes: Vec<&[u32]> = stream.tasks.iter().map(|task| task.classes.as_slice()).collect();
    assert_eq!(classes, [&[0, 1][..], &[2], &[3]]);
    assert_eq!(stream.tasks.iter().map(|task| task.first_label).collect::<Vec<_>>(), [0, 2, 3]);
    assert!(stream.tasks.iter().all(|task| task.test.len() == 6), "every task is tested on all images");
    assert_eq!((stream.n_classes, stream.background_shift), (4, true));
}

#[test]
fn a_disjoint_task_has_no_image_with_a_class_to_come() {
    let split = Split { steps: steps("1-1"), membership: Membership::Disjoint, ..Split::default() };
    let train: Vec<Vec<u32>> = stream(&split).tasks.into_iter().map(|task| task.train).collect();
    assert_eq!(train, [vec![0], vec![1, 2], vec![3, 5]]);
    let limited = Split { limit_per_task: Some(1), ..split };
    assert_eq!(stream(&limited).tasks[1].train, [1], "the first image of the first domain");
}

#[test]
fn pixels_of_other_tasks_are_background_in_training() {
    let order = ClassOrder::Explicit(vec![3, 1, 2]);
    let stream = stream(&Split { steps: steps("1-1"), order, ..Split::default() });
    // c is label 1, a is 2, b is 3.
    assert_eq!(stream.label_of_class, [0, 2, 3, 1]);
    let labels = |task: usize, knows_old: bool| stream.training_labels(&stream.tasks[task], knows_old);
    assert_eq!(labels(0, false), [0, 0, 0, 1]);
    assert_eq!(labels(1, false), [0, 2, 0, 0], "c has been, b is still to come");
    assert_eq!(labels(1, true), [0, 2, 0, 1], "a reference may know what was");
    assert_eq!(labels(2, true), [0, 2, 3, 1]);
}

#[test]
fn classes_that_never_arrive_stay_background_and_keep_their_images_out_of_disjoint_tasks() {
    let split = Split { order: ClassOrder::Explicit(vec![0, 1, 2]), steps: steps("1-1"), ..Split::default() };
    let overlapped = stream(&split);
    assert_eq!((overlapped.n_classes, overlapped.label_of_class[3]), (3, NO_LABEL));
    assert_eq!(overlapped.training_labels(&overlapped.tasks[0], false), [0, 1, 0, 0]);
    let disjoint = stream(&Split { membership: Membership::Disjoint, ..split });
    assert_eq!(disjoint.tasks[0].train, [0], "image 3 has a class that is not seen in this task");
}

#[test]
fn a_domain_is_learnt_with_all_classes() {
    let split = Split { scenario: Scenario::Domain, steps: steps("1-1"), ..Split::default() };
    let stream = stream(&split);
    let domains: Vec<&[u32]> = stream.tasks.iter().map(|task| task.domains.as_slice()).collect();
    assert_eq!(domains, [&[0][..], &[1], &[2]]);
    assert_eq!(stream.tasks.iter().map(|task| task.train.clone()).collect::<Vec<_>>(), [[0, 1], [2, 3], [4, 5]]);
    for task in &stream.tasks {
        assert_eq!((task.first_label, task.classes.as_slice()), (0, &[0, 1, 2, 3][..]));
        assert_eq!(stream.training_labels(task, false), [0, 1, 2, 3]);
    }
}

#[test]
fn steps_are_those_of_the_literature() {
    let sizes = |text: &str, n: usize| text.parse::<Steps>().unwrap().sizes(n, "classes");
    assert_eq!(sizes("15-1", 20).unwrap(), [15, 1, 1, 1, 1, 1]);
    assert_eq!(sizes("15-5", 20).unwrap(), [15, 5]);
    assert_eq!(sizes("4-1-1", 8).unwrap(), [4, 1, 1]);
    assert_eq!(sizes("1-1", 8).unwrap(), [1; 8]);
    assert_eq!((Steps::usual(5).to_string(), Steps::usual(8).to_string()), ("3-1".into(), "4-1".into()));
    for (text, n) in [("9-1", 8), ("8-1", 8), ("4-1-1", 5)] {
        let message = sizes(text, n).unwrap_err().to_string();
        assert!(message.contains("--steps") && message.contains(&format!("the data set has {n}")), "{message}");
    }
    for text in ["", "4", "4-0", "4-", "a-b"] {
        assert!(text.parse::<Steps>().is_err(), "{text}");
    }
}

/// The pixel's class, plus one so that it is not what lies outside.
#[test]
fn masks_are_cropped_and_mirrored_with_their_images() {
    let (h, w, n) = (5, 6, 4);
    let mut rng = Rng::keyed(3, Purpose::Test, 0);
    let masks: Vec<u8> = (0..n * h * w).map(|_| rng.below(6) as u8).collect();
    let pixels = masks.iter().map(|class| class + 1).collect();
    let images = Images { channels: 1, height: h, width: w, pixels, labels: vec![0; n], views: Vec::new(), masks };
    let table: Vec<u32> = (0..6).collect();
    let plain = Draw::default();
    let draws = [Draw { dy: 2, dx: -1, flip: 1, ..plain }, Draw { dy: -3, dx: 2, ..plain }, plain];
    let draws = [&draws[..], &[Draw { dx: 3, flip: 1, ..plain }]].concat();
    let samples = [3, 0, 2, 1];
    let labels = gather_labels(&images, &samples, &draws, &table);
    let device = Device::cpu();
    let bytes = engram::device::Array::from_bytes(&device, &gather(&images, &samples)).unwrap();
    let flat: Vec<u32> = draws.iter().flat_map(words).collect();
    let normalization = Normalization {
        mean: Tensor::from_f32(&device, [1], &[0.0]).unwrap(),
        inverse_std: Tensor::from_f32(&device, [1], &[255.0]).unwrap(),
    };
    let draws = Tensor::from_u32(&device, [n, 4], &flat).unwrap();
    let seen = image_batch(&Tensor::constant(bytes), &draws, &normalization, [1, h, w]).unwrap().to_vec().unwrap();
    assert_eq!(labels.len(), seen.len());
    for (label, pixel) in labels.iter().zip(&seen) {
        let class = pixel.round() as u32;
        assert_eq!(*label, class.checked_sub(1).unwrap_or(NO_LABEL), "the pixel shows {pixel}");
    }
    assert!(labels.contains(&NO_LABEL), "some of it lies outside");
}

fn words(draw: &Draw) -> [u32; 4] {
    [draw.dy as u32, draw.dx as u32, draw.flip, draw.step as u32]
}

/// A picture whose brightness and mask both say the column: the mask the nearest one, and the picture as bright as
/// the place it was read at.
#[test]
fn images_and_masks_are_scaled_alike() {
    let (h, w) = (6, 8);
    let masks = (0..h * w).map(|i| (i % w) as u8).collect();
    let pixels = (0..h * w).map(|i| 20 * (i % w) as u8 + 20).collect();
    let images = Images { channels: 1, height: h, width: w, pixels, labels: vec![0], views: Vec::new(), masks };
    let table: Vec<u32> = (0..w as u32).collect();
    let unit = Draw::UNIT;
    let device = Device::cpu();
    let ones = |value| Tensor::from_f32(&device, [1], &[value]).unwrap();
    let normalization = Normalization { mean: ones(0.0), inverse_std: ones(255.0) };
    for (step, dx, flip) in [(unit / 2, 0, 0), (unit / 2, 2, 0), (2 * unit, 0, 0), (2 * unit, -3, 1), (5001, 1, 1)] {
        let draw = Draw { dx, flip, step, ..Draw::default() };
        let labels = gather_labels(&images, &[0], &[draw], &table);
        let bytes = engram::device::Array::from_bytes(&device, &gather(&images, &[0])).unwrap();
        let draws = Tensor::from_u32(&device, [1, 4], &words(&draw)).unwrap();
        let seen = image_batch(&Tensor::constant(bytes), &draws, &normalization, [1, h, w]).unwrap();
        for (at, (label, value)) in labels.iter().zip(seen.to_vec().unwrap()).enumerate() {
            if *label == NO_LABEL {
                assert_eq!(value, 0.0, "outside at {at}, {draw:?}");
                continue;
            }
            // The column by the definition, in pixels of the source.
            let column = (at % w) as f32 + 0.5 - w as f32 / 2.0;
            let column = column * step as f32 / unit as f32 + w as f32 / 2.0 - 0.5 + dx as f32;
            let column = if flip == 1 { (w - 1) as f32 - column } else { column };
            assert!((*label as f32 - column).abs() <= 0.5, "label {label} at {column}, {draw:?}");
            let expected = 20.0 * column.clamp(0.0, (w - 1) as f32) + 20.0;
            assert!((value - expected).abs() < 0.01, "{value} is not {expected} at {at}, {draw:?}");
        }
        let n_outside = labels.iter().filter(|&&label| label == NO_LABEL).count();
        assert_eq!(n_outside > 0, step > unit, "{n_outside} outside, {draw:?}");
    }
}

/// Factors of half to twice, each way as often; what is shown stays over the image, up to the padding.
#[test]
fn scales_are_drawn_evenly_and_crops_stay_near_the_image() {
    let augment = Augment::from(Augmentation::ScaleCropFlip);
    let mut rng = Rng::keyed(5, Purpose::Test, 1);
    let draws: Vec<Draw> = (0..4000).map(|_| augment.draw(&mut rng, [64, 48])).collect();
    let unit = Draw::UNIT;
    assert!(draws.iter().all(|draw| (unit / 2..=2 * unit).contains(&draw.step)));
    let n_larger = draws.iter().filter(|draw| draw.step < unit).count();
    assert!((1900..2100).contains(&n_larger), "{n_larger} of 4000 are shown larger");
    for draw in &draws {
        let most = |size: i32| 4 + size * (draw.step - unit).abs() / (2 * unit);
        assert!(draw.dy.abs() <= most(64) && draw.dx.abs() <= most(48), "{draw:?}");
    }
    assert!(draws.iter().any(|draw| draw.dy.abs() > 20), "crops use their room");
}

#[test]
fn a_batch_has_the_labels_of_its_pixels() {
    let dataset = five();
    let plan = Plan {
        images: dataset.train.clone(),
        samples: Arc::new(vec![5]),
        label_of_class: Arc::new(vec![0, 0, 0, 1]),
        batch_size: 4,
        seed: 1,
        first_epoch: 0,
        n_epochs: 1,
        augment: Augment::default(),
        drop_last: false,
    };
    let (_, batch) = plan.clone().batches().unwrap().next().unwrap();
    assert_eq!(batch.labels, [1, NO_LABEL, 1, 0]);
    let beyond = Plan { samples: Arc::new(vec![6]), ..plan };
    assert!(beyond.batches().err().unwrap().to_string().contains("there is no image 6"));
}

#[test]
fn scores_by_hand() {
    // 10 pixels of class 0: 8 right; 4 of class 1: 1 right; none of class 2, which is answered once.
    let confusion = [vec![8, 1, 1], vec![3, 1, 0], vec![0, 0, 0]];
    let iou = intersection_over_union(&confusion);
    assert_eq!(iou, [Some(8.0 / 13.0), Some(1.0 / 5.0), None]);
    assert_eq!(mean_iou(&iou), Some((8.0 / 13.0 + 0.2) / 2.0));
    assert_eq!(pixel_accuracy(&confusion), 9.0 / 14.0);
    assert_eq!(mean_iou(&[None, None]), None);
    let large = [vec![u32::MAX, u32::MAX], vec![0, u32::MAX]];
    assert_eq!(intersection_over_union(&large), [Some(0.5), Some(0.5)], "counts of large sets do not overflow");
}

fn load(dir: &Path, format: &str) -> engram::Result<Dataset> {
    let source = Source::parse(&format!("masks:{}", dir.display()))?;
    source.load(&LoadOptions { format: format.parse()?, normalize: Normalize::Channel, ..LoadOptions::default() })
}

/// A picture of `width` × 8 whose left half is dark, and its mask: class 1 on the left.
fn pair(image: &Path, mask: &Path, width: u32) {
    for path in [image, mask] {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    }
    let left = |x: u32| x < width / 2;
    RgbImage::from_fn(width, 8, |x, _| Rgb(if left(x) { [10; 3] } else { [240; 3] })).save(image).unwrap();
    GrayImage::from_fn(width, 8, |x, _| Luma([u8::from(left(x))])).save(mask).unwrap();
}

#[test]
fn three_layouts_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let voc = dir.path().join("voc");
    for stem in ["2007_1", "2007_2", "2008_3"] {
        let mask = voc.join(format!("SegmentationClass/{stem}.png"));
        pair(&voc.join(format!("JPEGImages/{stem}.jpg")), &mask, 16);
    }
    let lists = voc.join("ImageSets/Segmentation");
    std::fs::create_dir_all(&lists).unwrap();
    std::fs::write(lists.join("train.txt"), "2007_1\n2007_2\n").unwrap();
    std::fs::write(lists.join("val.txt"), "2008_3\n").unwrap();
    let dataset = load(&voc, "rgb8").unwrap();
    assert_eq!((dataset.train.len(), dataset.test.len(), dataset.n_classes()), (2, 1, 21));
    assert_eq!((dataset.class_names[15].as_str(), dataset.target()), ("person", Target::Mask));
    // The middle 8×8 of 16×8: half of it on either side.
    assert_eq!(dataset.train.mask(0)[..8], [1, 1, 1, 1, 0, 0, 0, 0]);
    std::fs::write(lists.join("val.txt"), "2007_2\n").unwrap();
    assert!(load(&voc, "rgb8").unwrap_err().to_string().contains("it names 2007_2, and so does"));
    std::fs::write(lists.join("val.txt"), "2008_4\n").unwrap();
    assert!(load(&voc, "rgb8").unwrap_err().to_string().contains("it names 2008_4"));

    let camvid = dir.path().join("camvid");
    for (part, stem) in [("train", "0001TP_1"), ("train", "0006R0_2"), ("test", "0001TP_3")] {
        let mask = camvid.join(format!("{part}annot/{stem}.png"));
        pair(&camvid.join(format!("{part}/{stem}.png")), &mask, 8);
    }
    let dataset = load(&camvid, "grey8").unwrap();
    assert_eq!(dataset.domains, ["0001TP", "0006R0"]);
    assert_eq!((dataset.n_classes(), dataset.train.labels.as_slice()), (11, &[0, 1][..]));

    let plain = dir.path().join("plain");
    for (domain, stem) in [("day", "a"), ("day", "b"), ("night", "a"), ("night", "b")] {
        let mask = plain.join(format!("masks/{domain}/{stem}.png"));
        pair(&plain.join(format!("images/{domain}/{stem}.jpg")), &mask, 8);
    }
    assert!(load(&plain, "rgb8").unwrap_err().to_string().contains("classes.txt"));
    std::fs::write(plain.join("classes.txt"), "ground\nwall\n").unwrap();
    let dataset = load(&plain, "rgb8").unwrap();
    assert_eq!((dataset.domains.as_slice(), dataset.train.len()), (&["day".to_string(), "night".into()][..], 2));
    assert_eq!(dataset.train.mask(0), [[1, 1, 1, 1, 0, 0, 0, 0]; 8].concat());
}

/// A plain folder of six pictures, one of which has this mask.
fn with_mask(write: impl Fn(&Path)) -> (TempDir, engram::Result<Dataset>) {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..6 {
        pair(&dir.path().join(format!("images/{i}.png")), &dir.path().join(format!("masks/{i}.png")), 8);
    }
    std::fs::write(dir.path().join("classes.txt"), "ground\nwall\n").unwrap();
    write(&dir.path().join("masks/3.png"));
    let dataset = load(dir.path(), "rgb8");
    (dir, dataset)
}

#[test]
fn a_mask_that_cannot_be_used_is_left_out_and_named() {
    /// What is written in place of a mask, by what is said of it.
    type Wrong = (&'static str, fn(&Path));
    let wrong: [Wrong; 6] = [
        ("the value 7, which is no class", |path| {
            GrayImage::from_pixel(8, 8, Luma([7])).save(path).unwrap();
        }),
        ("the mask is 7×8, and its image 3.png is 8×8", |path| {
            GrayImage::from_pixel(7, 8, Luma([1])).save(path).unwrap();
        }),
        ("16 bits", |path| {
            image::ImageBuffer::from_pixel(8, 8, Luma([1_u16])).save(path).unwrap();
        }),
        ("every pixel of the mask is void", |path| {
            GrayImage::from_pixel(8, 8, Luma([VOID])).save(path).unwrap();
        }),
        ("label_colors.txt", |path| {
            RgbImage::from_pixel(8, 8, Rgb([1, 2, 3])).save(path).unwrap();
        }),
        ("no readable PNG", |path| {
            let bytes = std::fs::read(path).unwrap();
            std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        }),
    ];
    for (words, write) in wrong {
        let (_dir, dataset) = with_mask(write);
        let dataset = dataset.unwrap_or_else(|e| panic!("{words}: {e}"));
        assert_eq!(dataset.train.len() + dataset.test.len(), 5, "{words}");
        assert_eq!((dataset.left_out.len(), dataset.left_out[0].n), (1, 1));
        assert!(dataset.notes[0].contains(words), "{}", dataset.notes[0]);
        assert!(dataset.notes[0].contains("3.png"), "{}", dataset.notes[0]);
    }
    let (_dir, dataset) = with_mask(|path| std::fs::remove_file(path).unwrap());
    assert!(dataset.unwrap_err().to_string().contains("it has no mask"));
}

/// Of a picture of 40×20 the middle 32×20 is twice 16×10; the class changes at its column 18, which is column 7 of the result.
#[test]
fn images_and_masks_need_not_be_square() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("classes.txt"), "ground\nwall\n").unwrap();
    for domain in ["day", "night"] {
        for part in ["images", "masks"] {
            std::fs::create_dir_all(dir.path().join(part).join(domain)).unwrap();
        }
        for i in 0..4 {
            let grey = |x: u32, [low, high]: [u8; 2]| Luma([if x < 18 { low } else { high }]);
            let save = |part: &str, levels: [u8; 2]| {
                let path = dir.path().join(format!("{part}/{domain}/{i}.png"));
                GrayImage::from_fn(40, 20, |x, _| grey(x, levels)).save(path).unwrap();
            };
            save("images", [10, 200]);
            save("masks", [0, 1]);
        }
    }
    let dataset = load(dir.path(), "grey10x16").unwrap();
    let images = &dataset.train;
    assert_eq!((images.channels, images.height, images.width), (1, 10, 16));
    for row in images.mask(0).chunks(16) {
        assert_eq!(row, [[0; 7].as_slice(), &[1; 9]].concat());
    }
    assert!(images.sample(0).iter().zip(images.mask(0)).all(|(pixel, class)| (*pixel > 100) == (*class == 1)));
    let settings = "--scenario domain --steps 1-1 --image-format rgb10x16 --model fcn3 --epochs 1 --batch-size 2";
    let run = format!("segment finetune --dataset masks:{} {settings} --device cpu --out run", dir.path().display());
    succeeds(dir.path(), &run);
    assert!(dir.path().join("run/report.html").is_file());
}

#[test]
fn masks_in_colour_need_their_table() {
    let paint = |path: &Path| {
        RgbImage::from_fn(8, 8, |x, _| Rgb(if x < 3 { [128, 0, 0] } else { [0, 0, 0] })).save(path).unwrap();
    };
    let (dir, _) = with_mask(paint);
    for i in 0..6 {
        paint(&dir.path().join(format!("masks/{i}.png")));
    }
    assert!(load(dir.path(), "rgb8").unwrap_err().to_string().contains("there is no image with a mask"));
    std::fs::write(dir.path().join("label_colors.txt"), "128 0 0\tVoid\n0 0 0 ground\n9 9 9 wall of stone\n").unwrap();
    let dataset = load(dir.path(), "rgb8").unwrap();
    assert_eq!(dataset.class_names, ["ground", "wall of stone"]);
    assert_eq!(dataset.train.mask(0)[..8], [VOID, VOID, VOID, 0, 0, 0, 0, 0]);
    std::fs::write(dir.path().join("label_colors.txt"), "128 0 ground\n").unwrap();
    assert!(load(dir.path(), "rgb8").unwrap_err().to_string().contains("R G B NAME"));
}

/// Its value means none, and the values behind it keep their classes.
#[test]
fn a_void_in_the_middle_of_the_list_is_no_class() {
    let (dir, _) = with_mask(|path| GrayImage::from_fn(8, 8, |x, _| Luma([x as u8 % 3])).save(path).unwrap());
    std::fs::write(dir.path().join("classes.txt"), "ground\nVoid\nwall\n").unwrap();
    std::fs::write(dir.path().join("train.txt"), "3\n").unwrap();
    std::fs::write(dir.path().join("test.txt"), "0\n").unwrap();
    let dataset = load(dir.path(), "rgb8").unwrap();
    assert_eq!(dataset.class_names, ["ground", "wall"]);
    assert_eq!(dataset.train.mask(0)[..8], [0, VOID, 1, 0, VOID, 1, 0, VOID]);
    assert_eq!((dataset.train.len(), dataset.test.len()), (1, 1));
    let n_images = std::fs::read_dir(dir.path().join("images")).unwrap().count();
    let unlisted = dataset.left_out.iter().find(|one| one.reason.contains("no list names")).unwrap();
    assert_eq!(unlisted.n, n_images - 2);
    std::fs::write(dir.path().join("test.txt"), "0\n3\n").unwrap();
    assert!(load(dir.path(), "rgb8").unwrap_err().to_string().contains("it names 3, and so does"));
    std::fs::write(dir.path().join("test.txt"), "0\n9.png\n").unwrap();
    let message = load(dir.path(), "rgb8").unwrap_err().to_string();
    assert!(message.contains("test.txt") && message.contains("it names 9.png"), "{message}");
}

#[test]
fn settings_of_the_other_kind_of_data_set_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refuses = |arguments: &str, words: &[&str]| {
        fails(dir.path(), &format!("{arguments} --device cpu"), 2, words);
    };
    refuses("finetune --dataset shape-city --classes-per-task 2", &["--classes-per-task has no effect", "--steps"]);
    refuses("finetune --steps 3-1", &["--steps has no effect", "masks"]);
    refuses("finetune --dataset shape-city --scenario task", &["--scenario task", "class or domain"]);
    refuses("finetune --dataset shape-city --scenario domain --setup disjoint", &["--setup has no effect"]);
    refuses("finetune --dataset shape-city --steps 5-1", &["--steps 5-1 asks for 6 classes"]);
    refuses("finetune --dataset shape-city --max-tasks 4", &["--max-tasks 4", "3 tasks"]);
    refuses("icarl --dataset shape-city", &["icarl learns from one class for each image", "finetune"]);
    refuses("finetune --dataset shape-city --model cnn", &["--model cnn", "whole images", "deeplab-lite"]);
    refuses("finetune --model fcn3", &["--model fcn3", "every pixel", "resnet20"]);
    refuses("ewc --dataset shape-city --fisher exact", &["--fisher", "sampled"]);
    refuses("lwf --dataset shape-city --distill dkd", &["--distill", "one class each"]);
    refuses("distill --dataset shape-city", &["masks", "one class each"]);
    refuses("distill --student fcn3 --teacher cnn --dataset glyphs", &["fcn3 answers for every pixel"]);
    refuses(
        "compare finetune lwf --task segmentation --dataset glyphs",
        &["--task segmentation", "one class for each image"],
    );
    refuses(
        "compare finetune lwf --task classification --dataset shape-city",
        &["--task classification", "each pixel"],
    );
    refuses("compare finetune icarl --task segmentation", &["icarl", "masks"]);
    refuses("segment icarl", &["icarl does not learn from masks", "finetune"]);
    fails(dir.path(), "finetune --dataset masks:nowhere --device cpu", 1, &["nowhere", "images and masks"]);
}

#[test]
fn shape_city_is_the_same_everywhere() {
    let city = engram::data::spec("shape-city").unwrap().load(Path::new("unused")).unwrap();
    assert_eq!(Fingerprint::of(&city).sums, [1_677_447_440, 3_878_004_623], "its bytes are another data set's");
    let (mean, std) = channel_statistics(&city.train);
    for (found, written) in [(mean, &city.mean), (std, &city.std)] {
        assert!(found.iter().zip(written).all(|(a, b)| (a - b).abs() < 1e-4), "{found:?} {written:?}");
    }
}

#[test]
fn masks_are_shown_over_their_images() {
    let dir = tempfile::tempdir().unwrap();
    succeeds(dir.path(), "datasets show shape-city --per-class 2");
    let sheet = image::open(dir.path().join("shape-city.png")).unwrap();
    assert!(sheet.width() > 4 * 64 && sheet.height() > 8 * 64, "{} {}", sheet.width(), sheet.height());
    let list = succeeds(dir.path(), "datasets").out;
    assert!(list.contains("shape-city") && list.contains("masks:DIR"), "{list}");
}
