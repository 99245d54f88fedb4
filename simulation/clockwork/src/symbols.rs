//! The functions of the C library that are defined here instead.
#![allow(unsafe_code, reason = "they have the C library's names and take its pointers")]

use std::slice;
use std::time::Duration;

use libc::{c_int, c_long, c_uint, c_void, clockid_t, size_t, ssize_t, timespec};
use rand::Rng as _;

use crate::{WORKS, Works};

/// `clock_gettime(3)`.
///
/// # Safety
///
/// `time` points to a place for a value.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    let simulated = WORKS.get().and_then(|works| simulated(works, clock));
    match simulated {
        Some(now) => {
            let value = timespec {
                tv_sec: now.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: c_long::from(now.subsec_nanos()),
            };
            // SAFETY: the caller says that this is a place for a value.
            unsafe { time.write(value) };
            0
        }
        // SAFETY: the kernel's own call, with the caller's arguments.
        None => match unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) } {
            0 => 0,
            _ => -1,
        },
    }
}

/// The time of a clock; `None` for clocks of processor time, which stay the machine's.
fn simulated(works: &Works, clock: clockid_t) -> Option<Duration> {
    match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => Some(works.wall()),
        libc::CLOCK_MONOTONIC
        | libc::CLOCK_MONOTONIC_RAW
        | libc::CLOCK_MONOTONIC_COARSE
        | libc::CLOCK_BOOTTIME => Some(works.monotonic()),
        _ => None,
    }
}

/// `getrandom(2)`.
///
/// # Safety
///
/// `buffer` points to `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut c_void, length: size_t, flags: c_uint) -> ssize_t {
    let Some(works) = WORKS.get() else {
        // SAFETY: the kernel's own call, with the caller's arguments.
        let got = unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) };
        return got.try_into().unwrap_or(-1);
    };
    if !buffer.is_null() {
        // SAFETY: the caller says so.
        let bytes = unsafe { slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
        works.random.lock().fill_bytes(bytes);
    }
    length.try_into().unwrap_or(-1)
}

/// `getentropy(3)`.
///
/// # Safety
///
/// `buffer` points to `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getentropy(buffer: *mut c_void, length: size_t) -> c_int {
    // SAFETY: as the caller of this function says.
    match unsafe { getrandom(buffer, length, 0) } {
        got if usize::try_from(got) == Ok(length) => 0,
        _ => -1,
    }
}
