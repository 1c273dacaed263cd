//! What a rank uses while it runs, as the kernel tells it of the rank's processes (proc_pid_stat(5), proc_pid_status(5),
//! proc_pid_io(5)). What it has started and left behind is not its own any more.

use super::sweep::below;
use crate::frames::RankUsage;
use crate::live::RankNow;

/// Looks at a rank's process and all below it. One that ends meanwhile counts with what was seen of it.
pub(super) fn of(rank: u32, pid: i32) -> RankNow {
    let mut now = RankNow { rank, pids: below(pid), ..RankNow::default() };
    now.pids.insert(0, pid);
    for pid in &now.pids {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        add_times(&mut now.used, &read("stat"), ticks_per_second());
        let status = read("status");
        let bytes = |name: &str| number_after(&status, name) << 10;
        now.used.memory_peak_bytes = now.used.memory_peak_bytes.max(bytes("VmHWM:"));
        now.virtual_peak_bytes = now.virtual_peak_bytes.max(bytes("VmPeak:"));
        now.resident_bytes += bytes("VmRSS:");
        let io = read("io");
        now.used.read_bytes += number_after(&io, "read_bytes:");
        now.used.written_bytes += number_after(&io, "write_bytes:");
    }
    now
}

/// Adds a process's times, and those of its children that it has waited for.
fn add_times(used: &mut RankUsage, stat: &str, ticks_per_second: u64) {
    /// utime is field 14; the name of the process, field 2, may hold anything.
    const UTIME_AFTER_NAME: usize = 11;
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let mut ticks = fields.split_whitespace().skip(UTIME_AFTER_NAME).map(|text| text.parse().unwrap_or(0));
    let mut next_us = || ticks.next().unwrap_or(0u64) * 1_000_000 / ticks_per_second;
    used.user_us += next_us();
    used.system_us += next_us();
    used.user_us += next_us();
    used.system_us += next_us();
}

fn ticks_per_second() -> u64 {
    let known = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
    known.and_then(|ticks| u64::try_from(ticks).ok()).filter(|ticks| *ticks > 0).unwrap_or(100)
}

/// The number in the line that begins with a name.
fn number_after(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let mut used = RankUsage::default();
        add_times(&mut used, "7 (a) b (c) R 1 7 7 0 -1 4 5 6 7 8 100 20 3 4 20 0 1", 100);
        assert_eq!((used.user_us, used.system_us), (1_030_000, 240_000));
        add_times(&mut used, "", 100);
        assert_eq!(used.user_us, 1_030_000);
    }

    /// A real process, whose child holds memory and has waited for one that computed.
    #[test]
    fn a_rank_counts_with_all_that_is_below_it() {
        let program = "import os,sys,time\nif os.fork():\n os.wait()\nelse:\n b=bytearray(50<<20)\n t=time.process_time\n \
                       if not os.fork():\n  while t()<0.2: pass\n  os._exit(0)\n os.wait()\n print('ready',flush=True)\n \
                       sys.stdin.read()\n";
        let mut child = Command::new("python3")
            .args(["-c", program])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let now = of(3, child.id().cast_signed());
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"x").unwrap();
        drop(stdin);
        child.wait().unwrap();
        assert_eq!((line.as_str(), now.rank, now.pids.len()), ("ready\n", 3, 2));
        assert!(now.used.user_us + now.used.system_us >= 200_000, "{now:?}");
        assert!((50 << 20..500 << 20).contains(&now.used.memory_peak_bytes), "{now:?}");
        assert!(
            now.resident_bytes >= now.used.memory_peak_bytes && now.virtual_peak_bytes >= 50 << 20,
            "{now:?}"
        );
        assert_eq!(of(0, child.id().cast_signed()).used, RankUsage::default(), "it is gone");
    }
}
