//! `engram datasets`: what there is, where it is looked for, and the built-in set as files.

use crate::data::{self, Presence};
use crate::error::Result;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Without a subcommand the data sets are listed.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct DatasetsArgs {
    #[command(subcommand)]
    command: Option<DatasetsCommand>,
    /// Folder with data files
    #[arg(long, value_name = "DIR", env = "ENGRAM_DATA_DIR", default_value = "datasets")]
    data_dir: PathBuf,
}

#[derive(Subcommand)]
enum DatasetsCommand {
    /// Write a data set as four IDX files
    Export {
        /// Which, for example glyphs
        name: String,
        /// Where to; made if it does not exist
        dir: PathBuf,
        /// Folder with data files
        #[arg(long, value_name = "DIR", env = "ENGRAM_DATA_DIR", default_value = "datasets")]
        data_dir: PathBuf,
    },
}

/// Lists or exports.
pub fn run(args: DatasetsArgs) -> Result<()> {
    if let Some(DatasetsCommand::Export { name, dir, data_dir }) = args.command {
        let dataset = data::spec(&name)?.load(&data_dir)?;
        for path in data::export(&dataset, &dir)? {
            println!("{}", path.display());
        }
        return Ok(());
    }
    for spec in data::ALL {
        println!("{:<10} {}", spec.name, spec.summary);
        match spec.presence(&args.data_dir) {
            Presence::BuiltIn => println!("{:<10} built in, nothing to download", ""),
            Presence::Present(path) => println!("{:<10} present in {}", "", path.display()),
            Presence::Missing { files, searched } => {
                let searched: Vec<String> = searched.iter().map(|path| path.display().to_string()).collect();
                println!("{:<10} missing: {}", "", files.join(", "));
                println!("{:<10} looked for, plain or .gz, in {}", "", searched.join(" and "));
            }
        }
    }
    println!(
        "\nOther folders: --data-dir DIR, or the environment variable ENGRAM_DATA_DIR. Sources: datasets/README.md"
    );
    Ok(())
}
