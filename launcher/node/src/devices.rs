//! Which device files belong to the devices that the configuration declares.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use muster_topo::Topology;
use muster_wire::v1;

pub use crate::containment::DeviceNumber;
use crate::error::{NodeError, Result};

/// The devices of this node that an attempt must not open: all that are declared, and whose files are known, but its own.
///
/// Files are those of the configuration, or those of GPUs that the kernel's drivers name. Devices without files are
/// nobody's to open.
///
/// # Errors
///
/// [`NodeError::NoDevice`] if a file that the configuration names is no device.
pub fn withheld(
    declared: &[v1::DeclaredDevices],
    topology: &Topology,
    own: &[v1::Devices],
) -> Result<Vec<DeviceNumber>> {
    let (mut others, mut mine) = (BTreeSet::new(), BTreeSet::new());
    for devices in declared {
        let is_mine =
            |number| own.iter().any(|held| held.name == devices.name && held.numbers.contains(&number));
        for number in 0..devices.count {
            let files = files(devices, number, topology)?;
            if is_mine(number) { mine.extend(files) } else { others.extend(files) }
        }
    }
    // One file may stand for several devices; who holds one of them may open it.
    Ok(others.difference(&mine).copied().collect())
}

fn files(devices: &v1::DeclaredDevices, number: u32, topology: &Topology) -> Result<Vec<DeviceNumber>> {
    if let Some(file) = devices.files.get(number as usize) {
        return device_number(Path::new(file)).map(|number| vec![number]);
    }
    let mut found = topology.devices.iter().filter(|found| found.name == devices.name && found.name == "gpu");
    Ok(found.nth(number as usize).map(|found| gpu_files(&found.pci_address)).unwrap_or_default())
}

fn device_number(file: &Path) -> Result<DeviceNumber> {
    let missing = |problem| NodeError::NoDevice { path: file.to_owned(), problem };
    let found = fs::metadata(file).map_err(|error| missing(error.to_string()))?;
    let kind = found.file_type();
    if !kind.is_char_device() && !kind.is_block_device() {
        return Err(missing("it is no device file".to_owned()));
    }
    let (major, minor) = (nix::sys::stat::major(found.rdev()), nix::sys::stat::minor(found.rdev()));
    Ok(DeviceNumber { block: kind.is_block_device(), major: major as u32, minor: minor as u32 })
}

/// The files by which programs reach a GPU: NVIDIA's own, and those of the kernel's graphics drivers.
fn gpu_files(pci_address: &str) -> Vec<DeviceNumber> {
    let information = PathBuf::from("/proc/driver/nvidia/gpus").join(pci_address).join("information");
    let nvidia = fs::read_to_string(information).ok().and_then(|text| nvidia_minor(&text));
    let nvidia = nvidia.and_then(|minor| device_number(Path::new(&format!("/dev/nvidia{minor}"))).ok());
    let drm = PathBuf::from("/sys/bus/pci/devices").join(pci_address).join("drm");
    let drm = fs::read_dir(drm).into_iter().flatten().flatten();
    let drm = drm.filter_map(|entry| parse_number(&fs::read_to_string(entry.path().join("dev")).ok()?));
    nvidia.into_iter().chain(drm).collect()
}

/// The number in the name of NVIDIA's device file, by what its driver says.
fn nvidia_minor(information: &str) -> Option<u32> {
    let line = information.lines().find_map(|line| line.strip_prefix("Device Minor:"))?;
    line.trim().parse().ok()
}

/// A device of characters as sysfs writes it, such as `226:128`.
fn parse_number(text: &str) -> Option<DeviceNumber> {
    let (major, minor) = text.trim().split_once(':')?;
    Some(DeviceNumber { block: false, major: major.parse().ok()?, minor: minor.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(name: &str, files: &[&str]) -> v1::DeclaredDevices {
        let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
        v1::DeclaredDevices { name: name.to_owned(), count: files.len() as u32, files }
    }

    #[test]
    fn an_attempt_may_open_its_own_devices_and_no_other() {
        let topology = Topology::from_synthetic("pu:1").unwrap();
        let all =
            [declared("gpu", &["/dev/null", "/dev/zero"]), declared("fpga", &["/dev/full", "/dev/zero"])];
        let number = |minor| DeviceNumber { block: false, major: 1, minor };
        let held = |name: &str, numbers: &[u32]| v1::Devices {
            name: name.to_owned(),
            kind: String::new(),
            numbers: numbers.to_vec(),
        };
        assert_eq!(withheld(&all, &topology, &[]).unwrap(), [number(3), number(5), number(7)]);
        assert_eq!(withheld(&all, &topology, &[held("gpu", &[0])]).unwrap(), [number(5), number(7)]);
        assert_eq!(withheld(&all, &topology, &[held("fpga", &[1])]).unwrap(), [number(3), number(7)]);
        // Devices of which no file is known are withheld from nobody.
        let unknown = v1::DeclaredDevices { name: "gpu".to_owned(), count: 2, files: Vec::new() };
        assert_eq!(withheld(&[unknown], &topology, &[]).unwrap(), []);
    }

    #[test]
    fn a_file_that_is_no_device_is_the_nodes_fault() {
        for (file, why) in [("/dev/absent", "No such file"), ("/etc/passwd", "it is no device file")] {
            let error =
                withheld(&[declared("gpu", &[file])], &Topology::from_synthetic("pu:1").unwrap(), &[])
                    .unwrap_err();
            assert!(error.node_at_fault() && error.sentence().contains(why), "{}", error.sentence());
            assert!(error.sentence().contains(file), "{}", error.sentence());
        }
    }

    #[test]
    fn what_drivers_say_is_read() {
        let text = "Model: \t\t NVIDIA H100\nIRQ:   \t\t 42\nDevice Minor: \t 3\nGPU Excluded:\t No\n";
        assert_eq!(nvidia_minor(text), Some(3));
        assert_eq!(nvidia_minor("Model: x\n"), None);
        assert_eq!(parse_number("226:128\n"), Some(DeviceNumber { block: false, major: 226, minor: 128 }));
        assert_eq!(parse_number("226"), None);
    }
}
