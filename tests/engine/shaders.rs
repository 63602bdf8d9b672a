//! Every shader of the tables, parsed and validated by naga; no GPU needed. Portable limits are checked here, because software
//! adapters do not enforce them.

use engram::device::{Kernel, Matrices, PRIMITIVE_KERNELS, Workgroup};
use engram::ops;
use naga::back::pipeline_constants::process_overrides;
use naga::valid::{Capabilities, GlobalUse, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, ShaderStage, StorageAccess};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// What every WebGPU adapter offers.
const MAX_STORAGE_BINDINGS: usize = 8;
const MAX_SHARED_BYTES: u32 = 16 << 10;
const MAX_INVOCATIONS: u32 = 256;
/// A parameter block has one slot of the uniform arena.
const MAX_UNIFORM_BYTES: u32 = 256;

/// Every kernel of the op table, of the planner of products and of the tape, once: those that any adapter can run.
fn kernels() -> Vec<&'static Kernel> {
    let mut kernels: Vec<&'static Kernel> = Vec::new();
    let tiles = ops::tile_kernels(MAX_SHARED_BYTES as usize);
    for kernel in ops::ALL.iter().flat_map(|op| op.kernels).chain(PRIMITIVE_KERNELS).copied().chain(tiles) {
        if !kernels.iter().any(|other| std::ptr::eq(*other, kernel)) {
            kernels.push(kernel);
        }
    }
    assert!(kernels.len() >= 40, "only {} kernels were found", kernels.len());
    kernels
}

fn shader_files() -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wgsl"))
        .map(|path| (path.clone(), std::fs::read_to_string(path).unwrap()))
        .collect();
    files.sort();
    assert!(files.len() >= 20, "only {} shaders were found", files.len());
    files
}

/// Reports the failures of all kernels at once.
fn over_kernels(check: impl Fn(&'static Kernel) -> Result<(), String>) {
    let failures: Vec<String> = kernels()
        .into_iter()
        .filter_map(|kernel| check(kernel).err().map(|failure| format!("{}: {failure}", kernel.name)))
        .collect();
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// The composed module, valid without any optional capability.
fn module(kernel: &Kernel) -> Result<(Module, ModuleInfo), String> {
    let source = kernel.text();
    let module = naga::front::wgsl::parse_str(&source).map_err(|e| e.emit_to_string(&source))?;
    let info = Validator::new(ValidationFlags::all(), Capabilities::empty())
        .validate(&module)
        .map_err(|e| e.emit_to_string(&source))?;
    Ok((module, info))
}

/// The position of the kernel's entry point.
fn entry_point(kernel: &Kernel, module: &Module) -> Result<usize, String> {
    let found =
        module.entry_points.iter().position(|entry| entry.name == kernel.entry && entry.stage == ShaderStage::Compute);
    found.ok_or_else(|| format!("there is no entry point '{}'", kernel.entry))
}

#[test]
fn every_kernel_is_valid_and_binds_what_it_declares() {
    over_kernels(|kernel| {
        let (module, info) = module(kernel)?;
        let uses = info.get_entry_point(entry_point(kernel, &module)?);
        let (mut tensors, mut uniforms) = (Vec::new(), Vec::new());
        for (handle, global) in module.global_variables.iter().filter(|(handle, _)| !uses[*handle].is_empty()) {
            let Some(binding) = global.binding else { continue };
            match global.space {
                AddressSpace::Storage { access } => {
                    if binding.group != 0 {
                        return Err(format!("{:?} is not in group 0", global.name));
                    }
                    let letter = if access.contains(StorageAccess::STORE) { 'w' } else { 'r' };
                    // A tensor that is only read must be declared so: wgpu refuses a buffer that is bound both ways.
                    if letter == 'w' && !uses[handle].contains(GlobalUse::WRITE) {
                        return Err(format!("{:?} is read_write but never written", global.name));
                    }
                    tensors.push((binding.binding, letter));
                }
                AddressSpace::Uniform => {
                    if (binding.group, binding.binding) != (1, 0) {
                        return Err(format!("the uniform {:?} is not group 1, binding 0", global.name));
                    }
                    let size = module.types[global.ty].inner.size(module.to_ctx());
                    if size > MAX_UNIFORM_BYTES {
                        return Err(format!("the parameter block has {size} bytes"));
                    }
                    uniforms.push(size);
                }
                space => return Err(format!("a binding in {space:?}")),
            }
        }
        tensors.sort_unstable();
        let places: Vec<usize> = tensors.iter().map(|(binding, _)| *binding as usize).collect();
        let letters: String = tensors.iter().map(|(_, letter)| letter).collect();
        if places != (0..tensors.len()).collect::<Vec<_>>() || letters != kernel.bindings {
            return Err(format!("the shader binds {letters:?} at {places:?}, the host {:?}", kernel.bindings));
        }
        if tensors.len() > MAX_STORAGE_BINDINGS {
            return Err(format!("{} storage bindings", tensors.len()));
        }
        if uniforms.len() != 1 {
            return Err(format!("{} parameter blocks", uniforms.len()));
        }
        Ok(())
    });
}

#[test]
fn workgroups_stay_within_portable_limits() {
    over_kernels(|kernel| {
        let (module, info) = module(kernel)?;
        entry_point(kernel, &module)?;
        for software in [false, true] {
            let (_, width) = kernel.workgroup.constants(software);
            let constants: HashMap<String, f64> =
                kernel.overrides(software).into_iter().map(|(name, value)| (name.to_string(), value)).collect();
            let entry = Some((ShaderStage::Compute, kernel.entry));
            let (resolved, info) = process_overrides(&module, &info, entry, &constants.into_iter().collect())
                .map_err(|e| format!("with the constants of this workgroup: {e}"))?;
            let entry = entry_point(kernel, &resolved)?;
            let [x, y, z] = resolved.entry_points[entry].workgroup_size;
            if x * y * z > MAX_INVOCATIONS {
                return Err(format!("{x}×{y}×{z} invocations"));
            }
            // The host divides a launch by these numbers.
            let host = (width, kernel.workgroup.height(software));
            if kernel.workgroup != Workgroup::Own && host != (x as usize, y as usize) {
                return Err(format!("the shader's workgroup is {x}×{y}, the host's {host:?}"));
            }
            let uses = info.get_entry_point(entry);
            let shared: u32 = resolved
                .global_variables
                .iter()
                .filter(|(handle, global)| global.space == AddressSpace::WorkGroup && !uses[*handle].is_empty())
                .map(|(_, global)| resolved.types[global.ty].inner.size(resolved.to_ctx()))
                .sum();
            if shared > MAX_SHARED_BYTES {
                return Err(format!("{shared} bytes of shared memory"));
            }
        }
        Ok(())
    });
}

/// Pipelines are cached by name.
#[test]
fn names_of_kernels_are_unique() {
    let mut names: Vec<&str> = kernels().iter().map(|kernel| kernel.name).collect();
    names.sort_unstable();
    for pair in names.windows(2) {
        assert_ne!(pair[0], pair[1], "two kernels have this name");
    }
}

#[test]
fn every_file_belongs_to_a_kernel() {
    let matrices = [false, true].map(|emulated| Matrices { split: false, emulated });
    let on_matrices = matrices.map(|matrices| ops::matrix_kernels(matrices, 48 << 10)).concat();
    for (path, text) in shader_files() {
        assert!(
            kernels().iter().chain(&on_matrices).any(|kernel| kernel.source.contains(&text.as_str())),
            "{} is used by no kernel of the tables",
            path.display()
        );
    }
}

#[test]
fn every_header_says_what_the_file_is_and_names_its_twin() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (path, text) in shader_files() {
        let header: String = text.lines().take_while(|line| line.starts_with("//")).collect::<Vec<_>>().join("\n");
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(!header.is_empty(), "{name} does not begin with a comment");
        // The prelude has nothing to compute; a gemm skeleton has a twin per set of holes.
        if name == "prelude.wgsl" || name.starts_with("gemm_") {
            continue;
        }
        let twin = header.split("CPU twin: ").nth(1).unwrap_or_else(|| panic!("{name} names no CPU twin"));
        let twin = twin.split(|c: char| c.is_whitespace() || ",;)".contains(c)).next().unwrap().trim_end_matches('.');
        // Some files only move numbers for a kernel: they say that they have none, and why.
        if twin == "none" {
            continue;
        }
        // A path, or path::function.
        let (file, function) = twin.split_once("::").map_or((twin, None), |(file, function)| (file, Some(function)));
        let code = std::fs::read_to_string(root.join(file));
        let code = code.unwrap_or_else(|e| panic!("{name}: its twin '{file}' cannot be read: {e}"));
        if let Some(function) = function {
            assert!(code.contains(&format!("fn {function}")), "{name}: {file} has no function '{function}'");
        }
    }
}

/// A barrier behind a return is not reached by all invocations: undefined on a GPU, unnoticed on many.
#[test]
fn no_barrier_follows_a_return() {
    for (path, text) in shader_files() {
        let code: String = text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n");
        for function in code.split("fn ").skip(1) {
            let (barrier, first_return) = (function.rfind("workgroupBarrier"), function.find("return"));
            if let (Some(barrier), Some(first_return)) = (barrier, first_return) {
                let name = function.split('(').next().unwrap();
                assert!(barrier < first_return, "{}: a barrier after a return in {name}", path.display());
            }
        }
    }
}
