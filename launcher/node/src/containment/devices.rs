//! Devices that the processes of a cgroup cannot open.
//!
//! Version 2 has no file for it: a small program is attached to the group that the kernel asks at each open of a device
//! (`BPF_PROG_TYPE_CGROUP_DEVICE`, bpf(2), "Device controller" in Documentation/admin-guide/cgroup-v2.rst). It stays with
//! the group, and works in a cgroup2 mount without controllers as well.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{NodeError, Result};

/// A device, as the kernel counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeviceNumber {
    /// Whether it is a block device rather than one of characters.
    pub block: bool,
    /// The driver's number.
    pub major: u32,
    /// The device's number with its driver.
    pub minor: u32,
}

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
/// Programs of groups above and of service managers stay in force.
const BPF_F_ALLOW_MULTI: u32 = 2;
const LICENSE: &[u8] = b"Apache-2.0\0";

/// `struct bpf_insn` of linux/bpf.h.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u8,
    /// Destination in the lower half, source in the upper one.
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// What `BPF_PROG_LOAD` reads of `union bpf_attr`.
#[repr(C)]
struct Load {
    prog_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
}

/// What `BPF_PROG_ATTACH` reads of it.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
}

/// Keeps every process that is in the group, or will be, from opening these devices.
///
/// # Errors
///
/// [`NodeError::File`] if the group cannot be opened, [`NodeError::System`] if the kernel takes no such program.
pub(super) fn withhold(group: &Path, devices: &[DeviceNumber]) -> Result<()> {
    if devices.is_empty() {
        return Ok(());
    }
    let group = File::open(group).map_err(NodeError::file("open the cgroup", group))?;
    let action = "keep devices from an attempt";
    let program = load(&program(devices)).map_err(NodeError::system(action))?;
    let attach = Attach {
        target: group.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        attach_type: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: the structure is what the command reads, and lives until the call has returned.
    let done = unsafe { bpf(BPF_PROG_ATTACH, &raw const attach) };
    if done < 0 { Err(NodeError::system(action)(std::io::Error::last_os_error())) } else { Ok(()) }
}

fn load(program: &[Instruction]) -> std::io::Result<OwnedFd> {
    let load = Load {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: the structure and what it points to are what the command reads, and live until the call has returned.
    let fd = unsafe { bpf(BPF_PROG_LOAD, &raw const load) };
    match i32::try_from(fd) {
        // SAFETY: a new descriptor that nobody else has.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// # Safety
///
/// `attribute` points to a structure that the command may read.
unsafe fn bpf<T>(command: libc::c_int, attribute: *const T) -> libc::c_long {
    // SAFETY: the caller's promise.
    unsafe { libc::syscall(libc::SYS_bpf, command, attribute, size_of::<T>()) }
}

/// A program that answers 0, which is no, for these devices, whatever is to be done with them, and 1 for all others.
fn program(devices: &[DeviceNumber]) -> Vec<Instruction> {
    // Codes of Documentation/bpf/standardization/instruction-set.rst.
    const LOAD_WORD: u8 = 0x61;
    const AND: u8 = 0x57;
    const MOVE: u8 = 0xb7;
    const JUMP_IF_NOT: u8 = 0x55;
    const EXIT: u8 = 0x95;
    // `struct bpf_cgroup_dev_ctx`: the kind in the lower half of the first word, the numbers in the next two.
    const KIND_BLOCK: i32 = 1;
    const KIND_CHARACTER: i32 = 2;
    let one = |code, registers, offset, immediate| Instruction { code, registers, offset, immediate };
    let mut program = vec![
        one(LOAD_WORD, 0x12, 0, 0),
        one(AND, 0x02, 0, 0xffff),
        one(LOAD_WORD, 0x13, 4, 0),
        one(LOAD_WORD, 0x14, 8, 0),
    ];
    for device in devices {
        let kind = if device.block { KIND_BLOCK } else { KIND_CHARACTER };
        program.extend([
            one(JUMP_IF_NOT, 0x02, 4, kind),
            one(JUMP_IF_NOT, 0x03, 3, device.major.cast_signed()),
            one(JUMP_IF_NOT, 0x04, 2, device.minor.cast_signed()),
            one(MOVE, 0x00, 0, 0),
            one(EXIT, 0, 0, 0),
        ]);
    }
    program.extend([one(MOVE, 0x00, 0, 1), one(EXIT, 0, 0, 0)]);
    program
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    /// In a real group on the cgroup2 mount of this machine, wherever it is.
    #[test]
    fn a_process_in_the_group_opens_every_device_but_those() {
        let mounts = super::super::mounts::Mounts::read();
        let Some(mount) = mounts.unified.filter(|_| nix::unistd::geteuid().is_root()) else { return };
        let group = mount.join(format!("muster-unit-devices-{}", std::process::id()));
        std::fs::create_dir(&group).unwrap();
        let zero = DeviceNumber { block: false, major: 1, minor: 5 };
        // The same numbers of the other kind are another device.
        let full = DeviceNumber { block: true, major: 1, minor: 7 };
        withhold(&group, &[zero, full]).unwrap();
        let reads = |device: &str| {
            let entrance = group.join("cgroup.procs");
            let mut command = Command::new("dd");
            command.args([&format!("if={device}"), "of=/dev/null", "count=1", "bs=1", "status=none"]);
            // SAFETY: the write of a small file allocates, which is harmless in a test.
            unsafe { command.pre_exec(move || std::fs::write(&entrance, "0")) };
            let output = command.output().unwrap();
            (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let (opened, said) = reads("/dev/zero");
        assert!(!opened && said.contains("Operation not permitted"), "{said}");
        assert!(reads("/dev/full").0 && reads("/dev/urandom").0);
        std::fs::remove_dir(&group).unwrap();
    }

    #[test]
    fn each_device_is_five_instructions() {
        let device = |minor| DeviceNumber { block: false, major: 195, minor };
        assert_eq!(program(&[device(0), device(1)]).len(), 4 + 2 * 5 + 2);
    }
}
