//! What this machine has for models.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

use ebb_api::pod::is_extended;

/// The part of the memory that is left to everything but models: a tenth.
const RESERVED_PART: u64 = 10;
/// The name that NVIDIA's own device plugin gives to GPUs.
const NVIDIA: &str = "nvidia.com/gpu";
/// Most devices of one kind, which bounds the search for a free one.
const DEVICES_MAX: u64 = 1024;

/// What there is for all replicas together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Bytes of memory; `None` for as much as anybody wants.
    pub memory: Option<u64>,
    /// Devices by the name of their resource.
    pub devices: BTreeMap<String, u64>,
}

/// `--devices nvidia.com/gpu=2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceCount {
    /// The resource.
    pub resource: String,
    /// How many.
    pub count: u64,
}

// === impl Capacity ===

impl Capacity {
    /// The capacity that was asked for, and the machine's own where nothing was.
    pub fn of(memory: Option<u64>, devices: &[DeviceCount], allowed: Option<u64>) -> Self {
        let found = || {
            let there = allowed.into_iter().chain(memory_of_machine()).min()?;
            Some(there - there / RESERVED_PART)
        };
        let devices: BTreeMap<_, _> = match devices {
            [] => gpus().map(|count| (NVIDIA.to_owned(), count)).into_iter().collect(),
            some => some.iter().map(|it| (it.resource.clone(), it.count)).collect(),
        };
        Self { memory: memory.or_else(found), devices }
    }
}

/// Bytes of memory, of this machine.
fn memory_of_machine() -> Option<u64> {
    memory_in(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn memory_in(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// NVIDIA's GPUs, as their driver lists them; `None` without any.
fn gpus() -> Option<u64> {
    let listed = Path::new("/proc/driver/nvidia/gpus").read_dir().ok()?;
    u64::try_from(listed.count()).ok().filter(|count| *count > 0)
}

// === impl DeviceCount ===

impl FromStr for DeviceCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (resource, count) = text.split_once('=').unwrap_or((text, ""));
        let count = count.parse().ok().filter(|count| *count <= DEVICES_MAX);
        match count.filter(|_| is_extended(resource)) {
            Some(count) => Ok(Self { resource: resource.to_owned(), count }),
            None => Err(format!(
                "it must be a resource and a number up to {DEVICES_MAX}, as in {NVIDIA}=1"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_goes_before_what_is_found() {
        let gpu = DeviceCount { resource: NVIDIA.to_owned(), count: 2 };
        let asked = Capacity::of(Some(8 << 30), &[gpu], Some(1 << 30));
        assert_eq!((asked.memory, asked.devices.get(NVIDIA)), (Some(8 << 30), Some(&2)));
        let found = Capacity::of(None, &[], Some(1000));
        assert_eq!(found.memory, Some(900), "the control group allows less than the machine has");
        assert_eq!(memory_in("MemTotal:       16384 kB\nMemFree: 1 kB"), Some(16 << 20));
        assert_eq!(memory_in("MemFree: 1 kB"), None);
    }

    #[test]
    fn devices_are_named_and_counted() {
        let read = |text: &str| text.parse::<DeviceCount>().map(|it| (it.resource, it.count)).ok();
        assert_eq!(read("nvidia.com/gpu=1"), Some((NVIDIA.to_owned(), 1)));
        for text in ["gpu=1", "nvidia.com/gpu", "nvidia.com/gpu=x", "nvidia.com/gpu=9999", ""] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
