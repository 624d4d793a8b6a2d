//! Fence: an allocator that can put every allocation flush against pages that no one may touch.
//!
//! ```text
//! one reserved range, a class for each power of two of UNIT; all of it is unreadable but the rooms:
//!   | guard | room | guard | room | guard | …
//!   Behind    …..data|        the data end where the guard page begins
//!   Front   |data…..          the data begin where the guard page ends
//! ```
//!
//! While the fence stands, an access of one byte past a slice kills the process, whatever the allocation's size: there
//! is no spare capacity to hide in. Rooms are used again, so that an allocation costs no system call.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::null_mut;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// Bytes of a guard and of the smallest room: a multiple of every page size in use.
const UNIT: usize = 64 << 10;
/// Rooms of UNIT, 2·UNIT, … 128 MiB.
const CLASSES: usize = 12;
/// Addresses of a class; they cost nothing until they are used.
const CLASS_BYTES: usize = 4 << 30;

/// The end of an allocation at which the guard page lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Side {
    /// The data begin at it.
    Front = 1,
    /// The data end at it.
    Behind = 2,
}

/// 0, or the `Side` of new allocations.
static SIDE: AtomicU8 = AtomicU8::new(0);
/// The address of the reserved range, once there is one.
static RANGE: AtomicUsize = AtomicUsize::new(0);
static ROOMS: Mutex<[Rooms; CLASSES]> = Mutex::new([Rooms { made: 0, free: 0 }; CLASSES]);

/// The rooms of one class.
#[derive(Clone, Copy)]
struct Rooms {
    made: usize,
    /// The address of a free room, which holds the address of the next one; 0 ends the list.
    free: usize,
}

/// The system's allocator, or the fence while it stands.
pub struct Fence;

/// Runs `work` with every allocation of every thread flush against a guard page.
pub fn fenced<R>(side: Side, work: impl FnOnce() -> R) -> R {
    reserve();
    SIDE.store(side as u8, Ordering::SeqCst);
    let result = work();
    SIDE.store(0, Ordering::SeqCst);
    result
}

fn reserve() {
    let _rooms = ROOMS.lock().expect("no panic holds this lock");
    if RANGE.load(Ordering::SeqCst) == 0 {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no memory of ours.
        let range = unsafe { libc::mmap(null_mut(), CLASSES * CLASS_BYTES, libc::PROT_NONE, flags, -1, 0) };
        assert!(range != libc::MAP_FAILED, "no range of {} GiB of addresses", (CLASSES * CLASS_BYTES) >> 30);
        RANGE.store(range as usize, Ordering::SeqCst);
    }
}

/// Bytes of a room of `class`.
fn room(class: usize) -> usize {
    UNIT << class
}

/// The class whose rooms hold `size` bytes.
fn class_of(size: usize) -> usize {
    size.div_ceil(UNIT).max(1).next_power_of_two().trailing_zeros() as usize
}

/// A room of `class`, if there is memory for one.
fn take(class: usize) -> Option<usize> {
    let mut rooms = ROOMS.lock().ok()?;
    let rooms = rooms.get_mut(class)?;
    if rooms.free != 0 {
        let at = rooms.free;
        // SAFETY: a free room is readable, aligned, and holds the next one's address, written by `give_back`.
        rooms.free = unsafe { *(at as *const usize) };
        return Some(at);
    }
    let (first, stride) = (class * CLASS_BYTES, room(class) + UNIT);
    let at = first + rooms.made * stride + UNIT;
    if at + room(class) + UNIT > first + CLASS_BYTES {
        return None;
    }
    let at = RANGE.load(Ordering::SeqCst) + at;
    // SAFETY: the pages lie within the reserved range, and no other room has them.
    let opened = unsafe { libc::mprotect(at as *mut _, room(class), libc::PROT_READ | libc::PROT_WRITE) };
    rooms.made += 1;
    (opened == 0).then_some(at)
}

fn give_back(class: usize, address: usize) {
    let (range, stride) = (RANGE.load(Ordering::SeqCst) + class * CLASS_BYTES, room(class) + UNIT);
    let at = range + (address - range) / stride * stride + UNIT;
    let mut rooms = ROOMS.lock().unwrap_or_else(|e| e.into_inner());
    // SAFETY: `at` begins the room of an allocation that its owner has just given up.
    unsafe { *(at as *mut usize) = rooms[class].free };
    rooms[class].free = at;
}

// SAFETY: a room belongs to one allocation from `take` to `give_back`, holds its size at the alignment asked for, and
// all else is the system's.
unsafe impl GlobalAlloc for Fence {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let side = SIDE.load(Ordering::Relaxed);
        if side == 0 || layout.align() > UNIT {
            // SAFETY: the caller's promises are the system's.
            return unsafe { System.alloc(layout) };
        }
        let class = class_of(layout.size());
        let Some(at) = take(class) else { return null_mut() };
        let behind = (room(class) - layout.size()) & !(layout.align() - 1);
        (if side == Side::Front as u8 { at } else { at + behind }) as *mut u8
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        let range = RANGE.load(Ordering::Relaxed);
        if range != 0 && ptr.addr().wrapping_sub(range) < CLASSES * CLASS_BYTES {
            return give_back(class_of(layout.size()), ptr.addr());
        }
        // SAFETY: memory outside the range came from the system, with this layout.
        unsafe { System.dealloc(ptr, layout) }
    }
}
