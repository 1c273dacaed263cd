//! What the node uses of its cores, memory, disks and network, for the controller.
//!
//! A few small files are read every five seconds, away from the agent's loop: the file system of the tasks' folders may be one
//! that hangs. Of counters that only grow, two readings give what was used between them.
//!
//! A node that has its machine for itself tells of the whole machine. One that is a part of a machine, as the declaration of its
//! cores (`wrap_cores`) or its cgroups say, tells of what runs under its own agent.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use muster_wire::v1;
use tokio::task::AbortHandle;

use super::Node;
use crate::containment::Group;

/// How often the node is looked at.
const EVERY: Duration = Duration::from_secs(5);
/// The size of what /proc/diskstats calls a sector, in bytes, whatever the disk's own are.
const SECTOR_BYTES: u64 = 512;

/// Looks at the node again and again, for as long as it is kept.
pub(super) struct Meter {
    /// What was used since it was last taken, as far as it is known.
    found: Arc<Mutex<Option<v1::NodeUse>>>,
    looking: AbortHandle,
}

impl Meter {
    /// Begins to look at a node whose controller said this.
    pub fn start(node: &Node, welcome: &v1::Welcome) -> Self {
        let sources = Sources::of(node, welcome);
        let found = Arc::new(Mutex::new(None));
        let place = Arc::clone(&found);
        let looking = tokio::spawn(async move {
            let mut before: Option<(Instant, Counters)> = None;
            let mut pace = tokio::time::interval(EVERY);
            pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                pace.tick().await;
                let sources = sources.clone();
                let Ok((now, counters, state)) = tokio::task::spawn_blocking(move || sources.read()).await
                else {
                    return;
                };
                if let Some((then, earlier)) = before {
                    let used = counters.since(&earlier, now.duration_since(then), &state);
                    let mut place = lock(&place);
                    *place = Some(place.take().map_or(used, |older| joined(&older, used)));
                }
                before = Some((now, counters));
            }
        });
        Self { found, looking: looking.abort_handle() }
    }

    /// What is new.
    pub fn take(&self) -> Option<v1::NodeUse> {
        lock(&self.found).take()
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

fn lock(found: &Mutex<Option<v1::NodeUse>>) -> MutexGuard<'_, Option<v1::NodeUse>> {
    // Nothing is left half done under this lock.
    found.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was used in two times, one after the other: heartbeats may be rarer than looks.
fn joined(older: &v1::NodeUse, newer: v1::NodeUse) -> v1::NodeUse {
    let period_ms = older.period_ms.saturating_add(newer.period_ms);
    let busy = |used: &v1::NodeUse| u64::from(used.cpu_hundredths) * u64::from(used.period_ms);
    let cpu = (busy(older) + busy(&newer)) / u64::from(period_ms.max(1));
    v1::NodeUse {
        period_ms,
        cpu_hundredths: u32::try_from(cpu).unwrap_or(u32::MAX),
        disk_read_bytes: older.disk_read_bytes.saturating_add(newer.disk_read_bytes),
        disk_write_bytes: older.disk_write_bytes.saturating_add(newer.disk_write_bytes),
        disk_reads: older.disk_reads.saturating_add(newer.disk_reads),
        disk_writes: older.disk_writes.saturating_add(newer.disk_writes),
        network_in_bytes: older.network_in_bytes.saturating_add(newer.network_in_bytes),
        network_out_bytes: older.network_out_bytes.saturating_add(newer.network_out_bytes),
        ..newer
    }
}

/// Where it is read from.
#[derive(Debug, Clone)]
struct Sources {
    /// What holds the node's work, and how many CPUs it may use, if it shares its machine with other nodes.
    shared: Option<(Group, u64)>,
    /// The root of the folders of tasks.
    work: PathBuf,
    begun: Instant,
}

/// What only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Counters {
    /// CPU time that was used, in whatever unit.
    cpu_used: u64,
    /// CPU time that there was, in the same unit.
    cpu_all: u64,
    disks: Disks,
    network: Network,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Disks {
    read_bytes: u64,
    write_bytes: u64,
    reads: u64,
    writes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Network {
    in_bytes: u64,
    out_bytes: u64,
}

/// What is so at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct State {
    memory_bytes: u64,
    memory_free_bytes: Option<u64>,
    load_hundredths: Option<u32>,
    disk_bytes: u64,
}

impl Counters {
    /// What was used since an earlier reading.
    fn since(&self, earlier: &Self, period: Duration, now: &State) -> v1::NodeUse {
        let used = u128::from(self.cpu_used.saturating_sub(earlier.cpu_used));
        let all = u128::from(self.cpu_all.saturating_sub(earlier.cpu_all));
        let cpu = (used * 10_000).checked_div(all).unwrap_or(0).min(10_000);
        let (disks, disks_then) = (&self.disks, &earlier.disks);
        v1::NodeUse {
            period_ms: u32::try_from(period.as_millis()).unwrap_or(u32::MAX),
            cpu_hundredths: u32::try_from(cpu).unwrap_or(10_000),
            memory_bytes: now.memory_bytes,
            disk_bytes: now.disk_bytes,
            disk_read_bytes: disks.read_bytes.saturating_sub(disks_then.read_bytes),
            disk_write_bytes: disks.write_bytes.saturating_sub(disks_then.write_bytes),
            disk_reads: disks.reads.saturating_sub(disks_then.reads),
            disk_writes: disks.writes.saturating_sub(disks_then.writes),
            network_in_bytes: self.network.in_bytes.saturating_sub(earlier.network.in_bytes),
            network_out_bytes: self.network.out_bytes.saturating_sub(earlier.network.out_bytes),
            load_hundredths: now.load_hundredths,
            memory_free_bytes: now.memory_free_bytes,
        }
    }
}

impl Sources {
    fn of(node: &Node, welcome: &v1::Welcome) -> Self {
        let cores = node.topology.cores.iter().take(welcome.declared_cores as usize);
        let cpus = cores.map(|core| core.pus.len() as u64).sum();
        let is_part = welcome.wrap_cores || node.containment.sees_part();
        let whole = node.containment.whole().filter(|_| is_part);
        let work = node.dir.work(&node.config);
        Self { shared: whole.map(|group| (group, cpus)), work, begun: Instant::now() }
    }

    /// Reads everything, as far as it can be read.
    fn read(&self) -> (Instant, Counters, State) {
        let now = Instant::now();
        let (mut counters, mut state) = match &self.shared {
            Some((group, cpus)) => self.of_group(group, *cpus, now),
            None => of_machine(),
        };
        counters.network = network(&text("/proc/self/net/dev"), |name| {
            Path::new("/sys/class/net").join(name).join("device").exists()
        });
        state.disk_bytes = held_by_files(&self.work);
        (now, counters, state)
    }

    fn of_group(&self, group: &Group, cpus: u64, now: Instant) -> (Counters, State) {
        let usage = group.usage();
        let passed_us = u64::try_from(now.duration_since(self.begun).as_micros()).unwrap_or(u64::MAX);
        let disks = Disks {
            read_bytes: usage.read_bytes,
            write_bytes: usage.write_bytes,
            reads: usage.read_operations,
            writes: usage.write_operations,
        };
        let (cpu_used, cpu_all) = (usage.cpu_time_us, passed_us.saturating_mul(cpus));
        let counters = Counters { cpu_used, cpu_all, disks, network: Network::default() };
        (counters, State { memory_bytes: group.memory_in_use(), ..State::default() })
    }
}

fn of_machine() -> (Counters, State) {
    let (cpu_used, cpu_all) = cpu(&text("/proc/stat"));
    let disks =
        disks(&text("/proc/diskstats"), |name| Path::new("/sys/block").join(name).join("device").exists());
    let memory = text("/proc/meminfo");
    let of = |key: &str| memory_bytes(&memory, key);
    let state = State {
        memory_bytes: of("MemTotal")
            .zip(of("MemAvailable"))
            .map_or(0, |(all, free)| all.saturating_sub(free)),
        memory_free_bytes: of("MemFree"),
        load_hundredths: load(&text("/proc/loadavg")),
        disk_bytes: 0,
    };
    (Counters { cpu_used, cpu_all, disks, network: Network::default() }, state)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// What files hold of the file system at a path, in bytes.
fn held_by_files(path: &Path) -> u64 {
    let Ok(about) = nix::sys::statvfs::statvfs(path) else { return 0 };
    (about.blocks() - about.blocks_free().min(about.blocks())).saturating_mul(about.fragment_size())
}

/// CPU time that was used and that there was, of all CPUs together, of /proc/stat (proc_stat(5)).
fn cpu(stat: &str) -> (u64, u64) {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    let times: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
    // What virtual machines on this one have used, the ninth and the tenth number, is in the first two as well.
    let [user, nice, system, idle, io_wait, interrupts, soft_interrupts, stolen] =
        std::array::from_fn(|place| times.get(place).copied().unwrap_or(0));
    let sum = |times: &[u64]| times.iter().fold(0, |sum: u64, time| sum.saturating_add(*time));
    let used = sum(&[user, nice, system, interrupts, soft_interrupts]);
    (used, sum(&[used, idle, io_wait, stolen]))
}

/// An entry of /proc/meminfo (proc_meminfo(5)), in bytes.
fn memory_bytes(meminfo: &str, key: &str) -> Option<u64> {
    let value = meminfo.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The load average over one minute, in hundredths, as /proc/loadavg has it.
fn load(loadavg: &str) -> Option<u32> {
    let (whole, hundredths) = loadavg.split_whitespace().next()?.split_once('.')?;
    whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(hundredths.parse().ok()?)
}

/// What went through whole disks, of the kernel's Documentation/admin-guide/iostats: partitions, and devices that are made of
/// others, would count it twice.
fn disks(diskstats: &str, is_disk: impl Fn(&str) -> bool) -> Disks {
    let mut all = Disks::default();
    for line in diskstats.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if !words.get(2).is_some_and(|name| is_disk(name)) {
            continue;
        }
        let number = |place: usize| words.get(place).and_then(|word| word.parse().ok()).unwrap_or(0_u64);
        all.reads = all.reads.saturating_add(number(3));
        all.read_bytes = all.read_bytes.saturating_add(number(5).saturating_mul(SECTOR_BYTES));
        all.writes = all.writes.saturating_add(number(7));
        all.write_bytes = all.write_bytes.saturating_add(number(9).saturating_mul(SECTOR_BYTES));
    }
    all
}

/// What went through network devices (proc_pid_net(5)): those of hardware if there are any, as bridges and bonds would count it
/// twice, and otherwise all but the loopback device.
fn network(dev: &str, is_hardware: impl Fn(&str) -> bool) -> Network {
    let device = |line: &str| -> Option<(String, Network)> {
        let (name, rest) = line.split_once(':')?;
        let words: Vec<&str> = rest.split_whitespace().collect();
        let number = |place: usize| words.get(place)?.parse::<u64>().ok();
        Some((name.trim().to_owned(), Network { in_bytes: number(0)?, out_bytes: number(8)? }))
    };
    let all: Vec<(String, Network)> =
        dev.lines().filter_map(device).filter(|(name, _)| name != "lo").collect();
    let hardware: Vec<Network> =
        all.iter().filter(|(name, _)| is_hardware(name)).map(|(_, of)| *of).collect();
    let counted = if hardware.is_empty() { all.into_iter().map(|(_, of)| of).collect() } else { hardware };
    counted.into_iter().fold(Network::default(), |sum, of| Network {
        in_bytes: sum.in_bytes.saturating_add(of.in_bytes),
        out_bytes: sum.out_bytes.saturating_add(of.out_bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_of_a_real_machine() {
        let stat = "cpu  1602150 43258 287470 600039 13610 0 4343 1919 700 0\n\
                    cpu0 772948 31383 135882 329450 4183 0 1367 966 0 0\nintr 1 2 3\n";
        let used = 1_602_150 + 43_258 + 287_470 + 4_343;
        assert_eq!(cpu(stat), (used, used + 600_039 + 13_610 + 1_919));
        assert_eq!(cpu(""), (0, 0));
    }

    #[test]
    fn memory_and_load_are_read_of_a_real_machine() {
        let meminfo =
            "MemTotal:       16384000 kB\nMemFree:         1024000 kB\nMemAvailable:    8192000 kB\n";
        assert_eq!(memory_bytes(meminfo, "MemTotal"), Some(16_384_000 * 1024));
        assert_eq!(memory_bytes(meminfo, "Mem"), None);
        assert_eq!(
            (load("2.39 1.80 1.83 3/245 1234\n"), load("12.05 0 0"), load("")),
            (Some(239), Some(1205), None)
        );
    }

    #[test]
    fn partitions_and_loop_devices_are_no_disks() {
        let text = "\
   7       0 loop0 90 0 90 0 90 0 90 0 0 0 0 0 0 0 0 0 0
 254       0 vda 2552616 56108 172730522 6213474 680096 596828 383165152 1826838 0 348912 8121093 0 0 0 0 0 0
 254       1 vda1 2552616 56108 172730522 6213474 680096 596828 383165152 1826838 0 348912 8121093 0 0 0 0 0 0
 259       0 nvme0n1 10 0 8 0 20 0 16 0
";
        let found = disks(text, |name| matches!(name, "vda" | "nvme0n1"));
        assert_eq!((found.reads, found.writes), (2_552_626, 680_116));
        assert_eq!(found.read_bytes, (172_730_522 + 8) * 512);
        assert_eq!(found.write_bytes, (383_165_152 + 16) * 512);
    }

    #[test]
    fn of_networks_the_hardware_counts_or_else_all_but_the_loopback() {
        let text = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 2050748417  633461    0    0    0     0          0         0 2050748417  633461    0    0    0     0       0          0
 bond0:     700       1    0    0    0     0          0         0       70       1    0    0    0     0       0          0
  eth0:     500       1    0    0    0     0          0         0       50       1    0    0    0     0       0          0
  eth1:200       1    0    0    0     0          0         0       20       1    0    0    0     0       0          0
";
        let hardware = network(text, |name| name.starts_with("eth"));
        assert_eq!(hardware, Network { in_bytes: 700, out_bytes: 70 });
        assert_eq!(network(text, |_| false), Network { in_bytes: 1_400, out_bytes: 140 });
    }

    #[test]
    fn two_readings_give_what_was_used_between_them() {
        let then = Counters { cpu_used: 100, cpu_all: 1_000, ..Counters::default() };
        let disks = Disks { read_bytes: 4096, reads: 1, ..Disks::default() };
        let now =
            Counters { cpu_used: 400, cpu_all: 2_000, disks, network: Network { in_bytes: 5, out_bytes: 6 } };
        let state = State { memory_bytes: 7, disk_bytes: 8, load_hundredths: Some(9), ..State::default() };
        let used = now.since(&then, Duration::from_secs(5), &state);
        assert_eq!((used.period_ms, used.cpu_hundredths), (5_000, 3_000));
        assert_eq!((used.disk_read_bytes, used.network_out_bytes, used.memory_bytes), (4096, 6, 7));
        // Counters that began anew, and no time at all, are no use.
        let none = then.since(&now, Duration::ZERO, &state);
        assert_eq!((none.cpu_hundredths, none.disk_read_bytes, none.network_in_bytes), (0, 0, 0));
        // More than all there is, as clocks of two kinds may say, is all.
        let most = Counters { cpu_used: 3_000, cpu_all: 2_000, ..Counters::default() };
        assert_eq!(most.since(&then, Duration::from_secs(5), &state).cpu_hundredths, 10_000);
        let both =
            joined(&used, v1::NodeUse { period_ms: 15_000, cpu_hundredths: 1_000, memory_bytes: 1, ..used });
        assert_eq!((both.period_ms, both.cpu_hundredths, both.memory_bytes), (20_000, 1_500, 1));
        assert_eq!((both.disk_read_bytes, both.network_out_bytes), (8192, 12));
    }

    #[test]
    fn this_machine_is_read_and_a_busy_core_shows() {
        let folder = tempfile::tempdir().unwrap();
        let sources = Sources { shared: None, work: folder.path().to_owned(), begun: Instant::now() };
        let (then, before, _) = sources.read();
        while then.elapsed() < Duration::from_millis(300) {
            std::hint::spin_loop();
        }
        let (now, after, state) = sources.read();
        let used = after.since(&before, now.duration_since(then), &state);
        assert!(used.period_ms >= 300 && used.cpu_hundredths > 0, "{used:?}");
        assert!(used.memory_bytes > 1 << 20 && used.disk_bytes > 1 << 20, "{used:?}");
        assert!(used.memory_free_bytes.is_some() && used.load_hundredths.is_some(), "{used:?}");
    }
}
