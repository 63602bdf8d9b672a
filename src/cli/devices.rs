//! `engram devices`: every adapter and the CPU.

use crate::device::{Selection, list_adapters};
use crate::error::Result;
use crate::report::message;

/// Prints the list, and which entry `auto` takes.
pub fn run() -> Result<()> {
    let adapters = list_adapters();
    let chosen = Selection::Auto.choose(&adapters)?;
    let mark = |is_chosen: bool| if is_chosen { "*" } else { " " };
    println!("  {:<7} {:<31} {:<7} {:<14} largest tensor", "device", "name", "backend", "kind");
    for (i, adapter) in adapters.iter().enumerate() {
        let name: String = adapter.info.name.chars().take(31).collect();
        println!(
            "{} {:<7} {name:<31} {:<7} {:<14} {} MiB",
            mark(chosen == Some(i)),
            format!("gpu:{i}"),
            format!("{:?}", adapter.info.backend),
            adapter.kind(),
            adapter.tensor_limit() >> 20
        );
    }
    let threads = rayon::current_num_threads();
    println!(
        "{} {:<7} {:<31} {:<7} {:<14} host memory",
        mark(chosen.is_none()),
        "cpu",
        format!("{threads} threads"),
        "–",
        "processor"
    );
    println!("\n* is what --device auto takes.");
    for (i, adapter) in adapters.iter().enumerate() {
        let what = adapter.lacks_matrices().map_or("possible".into(), |what| format!("not possible: it lacks {what}"));
        print!("{}", message(&format!("gpu:{i}: --precision mixed and split are {what}.\n")));
    }
    if adapters.is_empty() {
        println!(
            "There is no adapter. {}",
            Selection::Gpu.choose(&adapters).map_or_else(|e| e.to_string(), |_| String::new())
        );
    } else if chosen.is_none() {
        let text = "There is no hardware adapter; a software one is slower than the CPU and taken only on request.";
        print!("{}", message(text));
    }
    Ok(())
}
