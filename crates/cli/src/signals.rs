//! Ctrl-C and SIGTERM: the first asks a run to save and end, the second ends it at once.

use crate::failure::Failure;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Whether a signal has come, and which.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Watches for SIGINT and SIGTERM from now on.
    ///
    /// # Errors
    /// What the system says.
    pub fn install() -> Result<Interrupt, Failure> {
        Interrupt::registered().map_err(|e| Failure::new(format!("signals: {e}")))
    }

    fn registered() -> std::io::Result<Interrupt> {
        let interrupt = Interrupt::default();
        let seen = Arc::new(AtomicBool::new(false));
        for (signal, status) in [(SIGINT, 130), (SIGTERM, 143)] {
            // In this order: the exit looks at the flag before this very signal sets it.
            flag::register_conditional_shutdown(signal, status, seen.clone())?;
            flag::register(signal, seen.clone())?;
            flag::register_usize(signal, interrupt.signal.clone(), status as usize)?;
        }
        Ok(interrupt)
    }

    /// The exit status that the first signal asks for: 130 or 143.
    pub fn status(&self) -> Option<u8> {
        match self.signal.load(Ordering::Relaxed) {
            0 => None,
            status => Some(status as u8),
        }
    }
}
