//! The way from a folder to the first token, and what it cannot do without: reading the files into fresh memory.

use longhand_gpt::error::Result;
use longhand_gpt::generate::Session;
use longhand_gpt::mmap::Access;
use longhand_gpt::snapshot;
use longhand_tensor::Ctx;
use longhand_tensor::exec::Weights;
use longhand_tensor::matmul::WeightType;
use longhand_tensor::parallel::{self, RowsMut};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Bytes that one task reads.
const PART: usize = 4 << 20;

/// Seconds to read `paths` into memory that nobody has touched yet, on all threads of `ctx`; and the bytes.
///
/// # Errors
/// What the file system says.
pub fn read_into_fresh_memory(ctx: &Ctx, paths: &[PathBuf]) -> io::Result<(f64, usize)> {
    let began = Instant::now();
    let mut held = Vec::new();
    for path in paths {
        let len = usize::try_from(std::fs::metadata(path)?.len()).unwrap_or(usize::MAX);
        // Pages come from the system when they are first written, by whoever reads into them.
        let mut bytes: Vec<u8> = bytemuck::allocation::try_zeroed_vec(len).map_err(|()| io::ErrorKind::OutOfMemory)?;
        let count = len.div_ceil(PART);
        let mut parts: Vec<(&mut [u8], io::Result<()>)> = bytes.chunks_mut(PART).map(|part| (part, Ok(()))).collect();
        parallel::for_each_rows(ctx, RowsMut::new(&mut parts, 1), count, 1, |i, part| {
            let (part, done) = &mut part.into_slice()[0];
            *done = read_at(path, i * PART, part);
        });
        parts.into_iter().try_for_each(|(_, done)| done)?;
        held.push(bytes);
    }
    Ok((began.elapsed().as_secs_f64(), held.iter().map(Vec::len).sum()))
}

fn read_at(path: &Path, at: usize, part: &mut [u8]) -> io::Result<()> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(at as u64))?;
    file.read_exact(part)
}

/// Seconds from a folder to the logits of a first token, with its tokenizer read or without.
///
/// # Errors
/// As [`snapshot::open`].
pub fn first_token(ctx: &Ctx, folder: &Path, kind: WeightType, tokenizer: bool) -> Result<f64> {
    let began = Instant::now();
    // The tokenizer is there as long as the model is.
    let (model, weights, _tokenizer) = if tokenizer {
        let trained = snapshot::open_packed(ctx, folder, Access::Map, kind)?;
        (trained.model, trained.params, Some(trained.tokenizer))
    } else {
        let body = snapshot::open_body_packed(ctx, folder, Access::Map, kind)?;
        (body.model, body.params, None)
    };
    let mut session = Session::new(ctx, &model, Weights::Packed(&weights), 1)?;
    session.feed(&[(0, &[0])])?;
    Ok(began.elapsed().as_secs_f64())
}
