//! Pictures: folders of them, CIFAR's files, contact sheets, and the settings that natural images need.

mod common;

use common::complaint;
use common::program::{check_width, engram, fails, succeeds};
use engram::data::{self, Augment, Augmentation, Dataset, ImageFormat, Labels, LoadOptions, Normalize, Source, sheet};
use engram::{Error, Result};
use image::{DynamicImage, GrayImage, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use std::path::Path;
use tempfile::TempDir;

const RGB8: ImageFormat = ImageFormat { channels: 3, height: 8, width: 8 };
const GREY8: ImageFormat = ImageFormat { channels: 1, height: 8, width: 8 };

fn temp() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn load(dir: &Path, format: ImageFormat) -> Result<Dataset> {
    let options = LoadOptions { format, ..LoadOptions::default() };
    Source::parse(&format!("folder:{}", dir.display()))?.load(&options)
}

/// `n` PNG pictures of one colour each, named 0.png and so on, in `dir/class`.
fn write_class(dir: &Path, class: &str, n: u8, colour: impl Fn(u8) -> [u8; 3]) {
    let folder = dir.join(class);
    std::fs::create_dir_all(&folder).unwrap();
    for i in 0..n {
        RgbImage::from_pixel(20, 12, Rgb(colour(i))).save(folder.join(format!("{i}.png"))).unwrap();
    }
}

#[test]
fn folders_are_classes_and_a_fifth_is_for_testing() {
    let dir = temp();
    write_class(dir.path(), "zebra", 10, |i| [i, 0, 0]);
    write_class(dir.path(), "ant", 7, |i| [0, i, 0]);
    write_class(dir.path(), ".hidden", 3, |_| [0, 0, 0]);
    std::fs::write(dir.path().join("notes.txt"), "beside the classes").unwrap();
    std::fs::write(dir.path().join("ant/notes.txt"), "beside the pictures").unwrap();
    let dataset = load(dir.path(), RGB8).unwrap();
    assert_eq!(dataset.class_names, ["ant", "zebra"]);
    assert_eq!(dataset.train.labels, [vec![0; 6], vec![1; 8]].concat());
    assert_eq!(dataset.test.labels, [0, 1, 1]);
    assert_eq!((dataset.train.channels, dataset.train.height, dataset.train.width), (3, 8, 8));
    assert!(dataset.notes.len() == 1 && dataset.notes[0].ends_with(": 2 .txt files"), "{:?}", dataset.notes);
    assert!(dataset.flips);
    // Every picture is in exactly one part, and in the order of names.
    let red = |i: usize| dataset.train.image(i)[0];
    let mut zebras: Vec<u8> = (6..14).map(red).collect();
    assert!(zebras.is_sorted());
    zebras.extend((1..3).map(|i| dataset.test.image(i)[0]));
    zebras.sort_unstable();
    assert_eq!(zebras, (0..10).collect::<Vec<u8>>());
    // The test pictures are those with the smallest MD5 of their names: of 0.png to 9.png, `md5sum` says so.
    assert_eq!([dataset.test.image(1)[0], dataset.test.image(2)[0]], SMALLEST_MD5);

    // The same folder elsewhere, under another name, is split alike.
    let moved = temp();
    write_class(moved.path(), "zebra", 10, |i| [i, 0, 0]);
    write_class(moved.path(), "ant", 7, |i| [0, i, 0]);
    assert_eq!(load(moved.path(), RGB8).unwrap().train, dataset.train);
}

/// `for i in 0 1 2 3 4 5 6 7 8 9; do printf $i.png | md5sum; done`, the two smallest, in the order of names.
const SMALLEST_MD5: [u8; 2] = [0, 4];

#[test]
fn pictures_are_cropped_scaled_and_converted() {
    let dir = temp();
    let path = dir.path().join("picture");
    let read = |format| data::pictures::read(&path, format).unwrap();
    let save = |picture: DynamicImage, kind| picture.save_with_format(&path, kind).unwrap();

    // A wide picture: the middle square of 16 counts, red left and blue right of its middle; the rest is green.
    let wide = RgbImage::from_fn(40, 16, |x, _| match x {
        12..20 => Rgb([200, 0, 0]),
        20..28 => Rgb([0, 0, 100]),
        _ => Rgb([0, 255, 0]),
    });
    save(wide.into(), image::ImageFormat::Png);
    let pixels = read(RGB8);
    let plane = |channel: usize| &pixels[channel * 64..(channel + 1) * 64];
    assert_eq!((plane(0)[..3].to_vec(), plane(2)[5..8].to_vec()), (vec![200; 3], vec![100; 3]), "planes of rows");
    assert!(plane(1).iter().all(|&green| green == 0), "the sides are cut off");
    assert_eq!(read(GREY8).len(), 64);

    // Grey becomes three equal planes; transparent is white; 16 bits become 8.
    save(GrayImage::from_pixel(9, 30, Luma([77])).into(), image::ImageFormat::Png);
    assert_eq!((read(RGB8), read(GREY8)), (vec![77; 192], vec![77; 64]));
    save(RgbaImage::from_pixel(8, 8, Rgba([0, 0, 0, 0])).into(), image::ImageFormat::Png);
    assert_eq!(read(RGB8), [255; 192]);
    let deep = image::ImageBuffer::from_pixel(8, 8, Luma([0x8080_u16]));
    save(DynamicImage::ImageLuma16(deep), image::ImageFormat::Png);
    assert_eq!(read(GREY8), [0x80; 64]);

    // A tiny one is enlarged; JPEG comes within a few levels. The kind is told by the content, not by the name.
    save(RgbImage::from_pixel(1, 1, Rgb([9, 8, 7])).into(), image::ImageFormat::Png);
    assert_eq!((read(RGB8)[0], read(RGB8)[191]), (9, 7));
    save(RgbImage::from_pixel(50, 60, Rgb([180, 90, 30])).into(), image::ImageFormat::Jpeg);
    let pixels = read(ImageFormat::default());
    assert_eq!(pixels.len(), 3 * 32 * 32);
    for (channel, colour) in [180_u8, 90, 30].into_iter().enumerate() {
        assert!(pixels[channel * 1024..][..1024].iter().all(|byte| byte.abs_diff(colour) < 6));
    }
}

#[test]
fn formats_are_read_from_text() {
    for text in ["grey28", "rgb32", "rgb512", "rgb96x128", "grey12x8"] {
        assert_eq!(text.parse::<ImageFormat>().unwrap().to_string(), text);
    }
    for text in ["", "rgb", "28", "rgb7", "rgb513", "gray28", "rgb-32", "rgb32x32", "rgb32x", "rgb7x32", "rgb32x9x9"] {
        complaint(text.parse::<ImageFormat>(), &[&format!("\"{text}\""), "grey28 or rgb32"]);
    }
}

#[test]
fn unreadable_pictures_are_named_and_left_out() {
    let dir = temp();
    write_class(dir.path(), "a", 4, |_| [1, 2, 3]);
    write_class(dir.path(), "b", 4, |_| [1, 2, 3]);
    let whole = std::fs::read(dir.path().join("a/0.png")).unwrap();
    std::fs::write(dir.path().join("a/half.png"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(dir.path().join("b/text.jpg"), "no picture").unwrap();
    std::fs::write(dir.path().join("b/empty.jpeg"), "").unwrap();
    let dataset = load(dir.path(), RGB8).unwrap();
    assert_eq!((dataset.train.len(), dataset.test.len()), (6, 2));
    let note = &dataset.notes[0];
    for words in ["3 of 11 pictures", "half.png", "text.jpg", "empty.jpeg"] {
        assert!(note.contains(words), "no {words:?} in {note}");
    }
    std::fs::write(dir.path().join("b/worse.jpeg"), "").unwrap();
    let note = &load(dir.path(), RGB8).unwrap().notes[0];
    assert!(note.contains("and 1 more") && !note.contains("worse"), "{note}");

    for i in 1..4 {
        std::fs::remove_file(dir.path().join(format!("a/{i}.png"))).unwrap();
    }
    complaint(
        load(dir.path(), RGB8),
        &["a: has one readable picture only", "at least two", "1 could not be read", "half"],
    );
}

/// The usual decoder makes grey of what is missing of a JPEG file.
#[test]
fn broken_jpeg_files_are_left_out() {
    let dir = temp();
    let path = dir.path().join("a.jpg");
    let noisy = RgbImage::from_fn(200, 160, |x, y| Rgb([(x * y) as u8, (x * 7) as u8, (y * 5 + x * x) as u8]));
    let grey = GrayImage::from_fn(90, 90, |x, y| Luma([(x * y) as u8]));
    for picture in [DynamicImage::from(noisy), DynamicImage::from(grey)] {
        picture.save(&path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        // The pixels are those of the usual decoder.
        let usual = image::load_from_memory(&whole).unwrap();
        assert_eq!(data::pictures::with_picture(&path, |picture| picture).unwrap(), usual);
        // What follows the end of a picture is no part of it.
        std::fs::write(&path, [&whole[..], &[0; 300]].concat()).unwrap();
        data::pictures::read(&path, RGB8).unwrap();
        let n = whole.len();
        for broken in [&whole[..n / 2], &whole[..n / 3], &whole[..n - 2]] {
            std::fs::write(&path, broken).unwrap();
            complaint(data::pictures::read(&path, RGB8), &["a.jpg", "no readable picture"]);
        }
    }
}

#[test]
fn pictures_of_every_kind_are_read() {
    let dir = temp();
    let picture = RgbImage::from_fn(16, 16, |x, _| if x < 8 { Rgb([255, 0, 0]) } else { Rgb([0, 0, 255]) });
    for (name, class) in [("png", "a"), ("bmp", "a"), ("tif", "a"), ("gif", "b"), ("webp", "b"), ("jfif", "b")] {
        let folder = dir.path().join(class);
        std::fs::create_dir_all(&folder).unwrap();
        let kind = match name {
            "jfif" => image::ImageFormat::Jpeg,
            name => image::ImageFormat::from_extension(name).unwrap(),
        };
        let path = folder.join(format!("picture.{name}"));
        DynamicImage::from(picture.clone()).save_with_format(&path, kind).unwrap();
        let pixels = data::pictures::read(&path, RGB8).unwrap();
        assert!(pixels[0] > 240 && pixels[7] < 30 && pixels[128] < 30 && pixels[135] > 240, "{name}: {pixels:?}");
    }
    let dataset = load(dir.path(), RGB8).unwrap();
    assert_eq!((dataset.train.len(), dataset.test.len(), dataset.notes.len()), (4, 2, 0));
}

/// A file that claims to be a huge picture costs next to nothing.
#[test]
fn claims_are_not_allocated() {
    let dir = temp();
    let path = dir.path().join("claim");
    let png = |width: u32, height: u32| {
        let mut header = b"IHDR".to_vec();
        header.extend([width.to_be_bytes(), height.to_be_bytes()].concat());
        header.extend([8, 2, 0, 0, 0]);
        let mut crc = flate2::Crc::new();
        crc.update(&header);
        let start = b"\x89PNG\r\n\x1a\n\0\0\0\x0d";
        [&start[..], &header, &crc.sum().to_be_bytes(), &[0, 0, 0, 9], b"IDATxxxxxxxxx"].concat()
    };
    let mut jpeg = Vec::new();
    let small = DynamicImage::from(GrayImage::new(16, 16));
    small.write_to(&mut std::io::Cursor::new(&mut jpeg), image::ImageFormat::Jpeg).unwrap();
    let at = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap() + 5;
    jpeg[at..at + 4].copy_from_slice(&[0x75, 0x30, 0x75, 0x30]);
    for file in [png(19, 1_073_741_837), png(29_000, 29_000), png(8_000, 7_000), jpeg] {
        std::fs::write(&path, file).unwrap();
        complaint(data::pictures::read(&path, RGB8), &["claim"]);
    }
    let peak = engram::experiment::results::peak_host_bytes();
    assert!(peak.is_none_or(|bytes| bytes < 512 << 20), "{peak:?} bytes");
    #[cfg(unix)]
    {
        let pipe = dir.path().join("pipe.png");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        complaint(data::pictures::read(&pipe, RGB8), &["no regular file"]);
    }
}

#[test]
fn folders_that_are_no_data_sets_are_refused() {
    let dir = temp();
    complaint(load(&dir.path().join("none"), RGB8), &["none", "cannot read"]);
    complaint(load(dir.path(), RGB8), &["has no sub-folders"]);
    write_class(dir.path(), "only", 4, |_| [0; 3]);
    complaint(load(dir.path(), RGB8), &["one class only, \"only\"", "at least two"]);
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    complaint(load(dir.path(), RGB8), &["empty: has no readable picture", "*.png"]);
    assert!(matches!(Source::parse("folder:"), Err(Error::Usage(_))));
    let coarse = LoadOptions { labels: Labels::Coarse, ..LoadOptions::default() };
    complaint(Source::Folder(dir.path().into()).load(&coarse), &["no coarse labels"]);
}

#[test]
fn statistics_are_those_of_the_training_pixels() {
    let dir = temp();
    write_class(dir.path(), "a", 2, |_| [0, 100, 30]);
    write_class(dir.path(), "b", 2, |_| [255, 200, 30]);
    let dataset = load(dir.path(), RGB8).unwrap();
    let close = |found: &[f32], expected: [f32; 3]| {
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
    };
    close(&dataset.mean, [0.5, 150.0 / 255.0, 30.0 / 255.0]);
    // The third channel is flat: one grey level stands for its deviation.
    close(&dataset.std, [0.5, 50.0 / 255.0, 1.0 / 255.0]);

    let options = LoadOptions { format: RGB8, normalize: Normalize::MeanImage, ..LoadOptions::default() };
    let dataset = Source::Folder(dir.path().into()).load(&options).unwrap();
    assert_eq!((dataset.mean.len(), &dataset.std[..]), (192, &[1.0; 3][..]));
    close(&[dataset.mean[0], dataset.mean[64], dataset.mean[191]], [0.5, 150.0 / 255.0, 30.0 / 255.0]);

    let options = LoadOptions { normalize: Normalize::Unit, ..options };
    let dataset = Source::Folder(dir.path().into()).load(&options).unwrap();
    assert_eq!((&dataset.mean[..], &dataset.std[..]), (&[0.0; 3][..], &[1.0; 3][..]));
}

#[test]
fn augmentations_have_names_and_defaults() {
    assert_eq!(Augment::from(Augmentation::None), Augment { pad: 0, flip: false, scale: false });
    assert_eq!(Augment::from(Augmentation::Flip), Augment { pad: 0, flip: true, scale: false });
    assert_eq!(Augment::from(Augmentation::CropFlip), Augment { pad: 4, flip: true, scale: false });
    let default = |name: &str, format| Source::parse(name).unwrap().augmentation(format);
    for (name, format, expected) in [
        ("glyphs", RGB8, Augmentation::None),
        ("mnist", RGB8, Augmentation::None),
        ("fashion-mnist", RGB8, Augmentation::None),
        ("cifar-10", RGB8, Augmentation::CropFlip),
        ("cifar-100", RGB8, Augmentation::CropFlip),
        ("folder:x", RGB8, Augmentation::CropFlip),
        ("folder:x", GREY8, Augmentation::None),
    ] {
        assert_eq!(default(name, format), expected, "{name}");
    }
}

// --------------------------------------------------------------------------------------------------------------- CIFAR

/// Records with these labels; pixel k of record i is i + k modulo 251.
fn records(labels: &[&[u8]]) -> Vec<u8> {
    let pixels = |i: usize| (0..3072).map(move |k| ((i + k) % 251) as u8);
    labels.iter().enumerate().flat_map(|(i, labels)| labels.iter().copied().chain(pixels(i))).collect()
}

fn write_cifar_10(dir: &Path) {
    std::fs::create_dir_all(dir).unwrap();
    for batch in 1..=5_u8 {
        let labels = [[2 * batch - 2], [2 * batch - 1]];
        std::fs::write(dir.join(format!("data_batch_{batch}.bin")), records(&[&labels[0], &labels[1]])).unwrap();
    }
    let labels: Vec<[u8; 1]> = (0..10).map(|label| [label]).collect();
    std::fs::write(dir.join("test_batch.bin"), records(&labels.iter().map(|l| &l[..]).collect::<Vec<_>>())).unwrap();
    let names: String = (0..10).map(|i| format!("class {i}\n")).collect();
    std::fs::write(dir.join("batches.meta.txt"), format!("{names}\n")).unwrap();
}

fn write_cifar_100(dir: &Path) {
    std::fs::create_dir_all(dir).unwrap();
    let labels: Vec<[u8; 2]> = (0..100).map(|fine| [fine / 5, fine]).collect();
    let bytes = records(&labels.iter().map(|l| &l[..]).collect::<Vec<_>>());
    std::fs::write(dir.join("train.bin"), &bytes).unwrap();
    std::fs::write(dir.join("test.bin"), &bytes).unwrap();
    let names = |n: u32, what: &str| (0..n).map(|i| format!("{what}_{i}\n")).collect::<String>();
    std::fs::write(dir.join("fine_label_names.txt"), names(100, "fine")).unwrap();
    std::fs::write(dir.join("coarse_label_names.txt"), names(20, "coarse")).unwrap();
}

#[test]
fn cifar_10_is_read_from_its_five_batches() {
    // In the folder of the data set's name, in the one the archive unpacks to, or in DIR itself.
    for folder in ["cifar-10", "cifar-10-batches-bin", "."] {
        let dir = temp();
        write_cifar_10(&dir.path().join(folder));
        let dataset = data::spec("cifar-10").unwrap().load(dir.path()).unwrap();
        assert_eq!(dataset.train.labels, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!((dataset.test.len(), dataset.class_names[3].as_str(), dataset.flips), (10, "class 3", true));
        assert_eq!((dataset.train.channels, dataset.train.height, dataset.train.width), (3, 32, 32));
        // The second record of a batch: red, green and blue begin at 0, 1,024 and 2,048.
        let image = dataset.train.image(5);
        assert_eq!([image[0], image[1024], image[2048], image[3071]], [1, 21, 41, (3072 % 251) as u8]);
    }
}

#[test]
fn cifar_100_has_two_kinds_of_labels() {
    let dir = temp();
    write_cifar_100(&dir.path().join("cifar-100-binary"));
    let load = |labels| {
        let options = LoadOptions { data_dir: dir.path().into(), labels, ..LoadOptions::default() };
        Source::parse("cifar-100").unwrap().load(&options).unwrap()
    };
    let (fine, coarse) = (load(Labels::Fine), load(Labels::Coarse));
    assert_eq!((fine.n_classes(), fine.train.labels[42], fine.class_names[42].as_str()), (100, 42, "fine_42"));
    assert_eq!((coarse.n_classes(), coarse.train.labels[42], coarse.class_names[8].as_str()), (20, 8, "coarse_8"));
    assert_eq!(fine.train.pixels, coarse.train.pixels);
    for name in ["glyphs", "mnist", "cifar-10"] {
        complaint(Source::parse(name).unwrap().n_classes(Labels::Coarse), &[name, "no coarse labels", "cifar-100"]);
    }
}

#[test]
fn damaged_cifar_files_are_named() {
    let dir = temp();
    write_cifar_100(dir.path());
    let spec = data::spec("cifar-100").unwrap();
    let damage = |file: &str, damage: &dyn Fn(&mut Vec<u8>), words: &[&str]| {
        let path = dir.path().join(file);
        let whole = std::fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        damage(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        let message = complaint(spec.load(dir.path()), words);
        assert!(message.contains(file), "{file} is not named: {message}");
        std::fs::write(&path, whole).unwrap();
    };
    damage("train.bin", &|b| b.truncate(5000), &["5,000 bytes", "records of 3,074 bytes", "fetch it again"]);
    damage("test.bin", &|b| b.clear(), &["holds 0 bytes"]);
    damage("train.bin", &|b| b[3074 * 7 + 1] = 100, &["record 7 has the label 100", "100 classes are 0 to 99"]);
    damage("train.bin", &|b| b[3074 * 8] = 20, &["record 8 has the label 20", "20 classes are 0 to 19"]);
    damage("fine_label_names.txt", &|b| b.truncate(40), &["expected 100"]);
    std::fs::remove_file(dir.path().join("test.bin")).unwrap();
    complaint(spec.load(dir.path()), &["missing test.bin;", "cifar-100-binary", "datasets fetch cifar-100"]);
}

/// Where the tests have the real files: ENGRAM_DATA_DIR with cifar-10 and cifar-100 in it.
#[test]
fn real_cifar_is_what_it_should_be() {
    let dir = std::env::var_os("ENGRAM_DATA_DIR").unwrap_or_default();
    for (name, first_labels, first_name) in [("cifar-10", [6, 9, 9], "airplane"), ("cifar-100", [19, 29, 0], "apple")] {
        let spec = data::spec(name).unwrap();
        if !matches!(spec.presence(Path::new(&dir)), data::Presence::Present(_)) || dir.is_empty() {
            use std::io::Write;
            let line = format!("SKIPPED: real_cifar_is_what_it_should_be needs {name} in ENGRAM_DATA_DIR");
            writeln!(std::io::stderr(), "{line}").unwrap();
            continue;
        }
        let dataset = spec.load(Path::new(&dir)).unwrap();
        assert_eq!((dataset.train.len(), dataset.test.len()), (50_000, 10_000));
        assert_eq!((&dataset.train.labels[..3], dataset.class_names[0].as_str()), (&first_labels[..], first_name));
        let (mean, std) = data::source::channel_statistics(&dataset.train);
        for (found, expected) in mean.iter().chain(&std).zip(dataset.mean.iter().chain(&dataset.std)) {
            assert!((found - expected).abs() < 1e-4, "{name}: {mean:?} {std:?}");
        }
        for class in 0..dataset.n_classes() as u32 {
            let count = dataset.train.labels.iter().filter(|&&label| label == class).count();
            assert_eq!(count, 50_000 / dataset.n_classes());
        }
    }
}

// ------------------------------------------------------------------------------------------------------ contact sheets

#[test]
fn sheets_have_a_row_per_class() {
    let dir = temp();
    write_class(dir.path(), "red", 5, |_| [250, 0, 0]);
    write_class(dir.path(), "blue", 5, |_| [0, 0, 250]);
    let dataset = load(dir.path(), RGB8).unwrap();
    let path = dir.path().join("sheet.png");
    sheet::write(&dataset.train, &dataset.class_names, 3, &path).unwrap();
    let picture = image::open(&path).unwrap().to_rgb8();
    // Four letters, three images of 64 pixels, gaps.
    assert_eq!(picture.dimensions(), (8 + 4 * 12 + 4 + 3 * 68, 4 + 2 * 68));
    let (from, middle) = (60, 36);
    assert_eq!(*picture.get_pixel(from + 5, middle), Rgb([0, 0, 250]), "blue comes before red");
    assert_eq!(*picture.get_pixel(from + 5, middle + 68), Rgb([250, 0, 0]));
    let ink = |top: u32| {
        (0..56)
            .flat_map(|x| (0..56).map(move |y| (x, top + y)))
            .filter(|&(x, y)| picture.get_pixel(x, y).0[0] < 30)
            .count()
    };
    assert!(ink(4) > 100 && ink(72) > 80, "both names are written: {} {}", ink(4), ink(72));
    complaint(
        sheet::write(&dataset.train, &dataset.class_names, 3, &dir.path().join("none/sheet.png")),
        &["none", "cannot write"],
    );
}

// --------------------------------------------------------------------------------------------------------- the program

#[test]
fn every_method_runs_on_a_folder_of_pictures() {
    let dir = temp();
    let pictures = dir.path().join("my pets");
    for (class, colour) in
        [("cat", [200, 40, 40]), ("dog", [40, 200, 40]), ("emu", [40, 40, 200]), ("fox", [200, 200, 0])]
    {
        write_class(&pictures, class, 15, |i| colour.map(|value| value + 2 * i));
    }
    std::fs::write(pictures.join("cat/broken.png"), "no picture").unwrap();
    std::fs::rename(&pictures, dir.path().join("pets")).unwrap();
    let quick = "--dataset folder:pets --epochs 3 --batch-size 8 --model mlp --device cpu";
    for (method, format) in [("icarl", "rgb32"), ("icarl", "grey28"), ("finetune", "rgb32"), ("joint", "grey28")] {
        let run = succeeds(&dir, &format!("{method} {quick} --image-format {format} --force --out out"));
        let text = run.out + &run.err;
        assert!(text.contains("warning: 1 of 61 pictures") && text.contains("broken.png"), "{text}");
        assert!(text.contains("cat") && text.contains(&format!("{method} on pets")), "{text}");
        let config = std::fs::read_to_string(dir.path().join("out/config.json")).unwrap();
        assert!(config.contains(&format!("\"image_format\": \"{format}\"")), "{config}");
        let augment = if format == "rgb32" { "crop-flip" } else { "none" };
        assert!(config.contains(&format!("\"augment\": \"{augment}\"")), "{config}");
    }
    // Colours can be told apart, and the run of a written configuration is the same run.
    let metrics = |out: &str| std::fs::read_to_string(dir.path().join(out).join("metrics.json")).unwrap();
    succeeds(&dir, &format!("joint {} --force --out out", quick.replace("--epochs 3", "--epochs 12")));
    let value: serde_json::Value = serde_json::from_str(&metrics("out")).unwrap();
    assert!(value["classifiers"]["network"]["final_accuracy"].as_f64().unwrap() > 0.9, "{value}");
    succeeds(&dir, "joint --config out/config.json --out again");
    assert_eq!(metrics("out"), metrics("again"));

    // The folder of the results is named after the pictures, not after their path.
    succeeds(&dir, &format!("finetune {quick} --quiet"));
    let run = std::fs::read_dir(dir.path().join("runs")).unwrap().next().unwrap().unwrap().file_name();
    assert!(run.to_string_lossy().starts_with("finetune-folder-pets-"), "{run:?}");

    succeeds(&dir, "datasets show folder:pets --per-class 4");
    assert!(image::open(dir.path().join("pets.png")).unwrap().height() > 200);
    let exists = engram(&dir, "datasets show folder:pets");
    assert!(exists.code == 2 && exists.err.contains("error: pets.png exists; --force"), "{exists:?}");
    check_width(&exists.err);
    fails(&dir, "icarl --dataset folder:nowhere", 1, &["nowhere", "cannot read"]);
    fails(&dir, &format!("icarl {quick} --image-format rgb9000"), 2, &["rgb9000"]);
    fails(&dir, &format!("icarl {quick} --labels coarse"), 2, &["no coarse labels"]);
    fails(&dir, &format!("icarl {quick} --classes-per-task 5"), 2, &["only 4 classes"]);
}

#[test]
fn the_orders_of_the_literature_and_the_settings_of_natural_images_run() {
    let dir = temp();
    write_cifar_100(&dir.path().join("cifar-100"));
    let quick = "--dataset cifar-100 --data-dir . --epochs 1 --model mlp --device cpu --out out --force";
    for flags in ["--class-order icarl", "--class-order icarl-1993 --normalize mean-image", "--augment flip"] {
        succeeds(&dir, &format!("finetune {quick} {flags}"));
    }
    let config = std::fs::read_to_string(dir.path().join("out/config.json")).unwrap();
    assert!(config.contains("\"classes_per_task\": 10") && config.contains("\"augment\": \"flip\""), "{config}");
    succeeds(&dir, &format!("icarl {quick} --memory 100 --labels coarse --augment none --normalize mean-image"));
    fails(&dir, &format!("icarl {quick} --labels coarse --class-order icarl"), 2, &["icarl", "100 classes", "has 20"]);
    fails(&dir, "icarl --class-order icarl-1993", 2, &["icarl-1993", "100 classes", "has 10"]);
    fails(&dir, "icarl --augment rotate", 2, &["rotate", "crop-flip"]);
    let verify = engram(&dir, "datasets verify cifar-100 --data-dir .");
    assert_eq!(verify.code, 1, "a tenth of the images is not the data set");
    let out = verify.out;
    assert!(out.contains("train.bin: 307,400 bytes, but the published file has 153,700,000"), "{out}");
    assert!(out.contains("WRONG  training images: 100 of 100 classes, 1 of each"), "{out}");
}
