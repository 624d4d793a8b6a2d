//! Reads the assembly that rustc writes (x86-64, AT&T syntax, v0 symbol names) and finds what must not stand in a
//! kernel: an intrinsic or a vector method that is called instead of inlined, and a vector that is kept on the
//! stack in an inner loop.
//!
//! ```text
//! listing    functions, each from its label to its `.size`, cut into basic blocks at labels and jumps
//! calls      what a function calls or jumps to outside itself, by its demangled name
//! loops      strongly connected blocks; the header taken out, what is still connected is a loop inside
//! inner      the innermost loops with vector multiply-adds
//! ```

use std::collections::{BTreeMap, BTreeSet};

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// `vfmadd231ps`.
    pub mnemonic: String,
    /// `(%rax), %ymm0, %ymm1`.
    pub operands: String,
}

impl Instruction {
    /// Whether it names a register of 8 or 16 floats.
    pub fn is_vector(&self) -> bool {
        self.operands.contains("%ymm") || self.operands.contains("%zmm")
    }
    /// Whether it multiplies and adds 8 or 16 floats, or 16 pairs of bfloat16.
    pub fn is_vector_fma(&self) -> bool {
        ["vfmadd", "vfmsub", "vfnmadd", "vfnmsub", "vdpbf16ps"].iter().any(|f| self.mnemonic.starts_with(f))
            && self.is_vector()
    }
    /// Whether it reads or writes a whole vector on the stack. A broadcast reads one float, which is no spill.
    fn is_spill(&self, frame_pointer: bool) -> bool {
        let stack = self.operands.contains("(%rsp") || (frame_pointer && self.operands.contains("(%rbp"));
        stack && self.is_vector() && !self.mnemonic.starts_with("vbroadcast")
    }
}

/// Instructions that run one after the other.
#[derive(Clone, Debug, Default)]
struct Block {
    instructions: Vec<Instruction>,
    successors: Vec<usize>,
}

/// A function of the listing.
#[derive(Clone, Debug)]
pub struct Function {
    /// Its path, demangled.
    pub name: String,
    blocks: Vec<Block>,
    calls: BTreeSet<String>,
    frame_pointer: bool,
}

impl Function {
    /// The paths that it calls, or jumps to as its last act; `?` for an address in a register.
    pub fn calls(&self) -> &BTreeSet<String> {
        &self.calls
    }

    /// Vector multiply-adds in its body.
    pub fn vector_fmas(&self) -> usize {
        self.blocks.iter().flat_map(|b| &b.instructions).filter(|i| i.is_vector_fma()).count()
    }

    /// Vector instructions in its body.
    pub fn vector_instructions(&self) -> usize {
        self.blocks.iter().flat_map(|b| &b.instructions).filter(|i| i.is_vector()).count()
    }

    /// Calls that leave vector code: to an intrinsic, to a method of `Simd`, to anything compiled for a vector
    /// token outside its trampoline.
    pub fn out_of_line(&self) -> Vec<&str> {
        self.calls.iter().map(String::as_str).filter(|name| is_out_of_line(name)).collect()
    }

    /// The instructions of every innermost loop that holds vector multiply-adds.
    pub fn inner_loops(&self) -> Vec<Vec<&Instruction>> {
        let mut leaves = Vec::new();
        self.leaf_loops((0..self.blocks.len()).collect(), &mut leaves);
        let body = |blocks: &BTreeSet<usize>| -> Vec<&Instruction> {
            blocks.iter().flat_map(|&b| &self.blocks[b].instructions).collect()
        };
        leaves.iter().map(body).filter(|body| fmas(body) > 0).collect()
    }

    /// The one of them with the most vector multiply-adds.
    pub fn inner_loop(&self) -> Option<Vec<&Instruction>> {
        self.inner_loops().into_iter().max_by_key(|body| fmas(body))
    }

    /// What an inner loop must not hold: calls, and whole vectors read from or written to the stack.
    pub fn spills_and_calls_in_inner_loops(&self) -> Vec<String> {
        let bad = |i: &&Instruction| i.mnemonic.starts_with("call") || i.is_spill(self.frame_pointer);
        let loops = self.inner_loops();
        loops.iter().flatten().filter(|i| bad(i)).map(|i| format!("{} {}", i.mnemonic, i.operands)).collect()
    }

    /// The innermost loops among `nodes`.
    fn leaf_loops(&self, nodes: BTreeSet<usize>, leaves: &mut Vec<BTreeSet<usize>>) {
        for component in self.components(&nodes) {
            let first = *component.first().expect("a component has a block");
            if component.len() == 1 && !self.blocks[first].successors.contains(&first) {
                continue;
            }
            // A loop's header is where it is entered from outside; the first in the listing when nothing enters.
            let entered = |b: &usize| {
                (0..self.blocks.len()).any(|p| !component.contains(&p) && self.blocks[p].successors.contains(b))
            };
            let header = component.iter().copied().find(entered).unwrap_or(first);
            let mut inside = component.clone();
            inside.remove(&header);
            let before = leaves.len();
            self.leaf_loops(inside, leaves);
            if leaves.len() == before {
                leaves.push(component);
            }
        }
    }

    /// Strongly connected components of `nodes`: blocks that reach each other.
    fn components(&self, nodes: &BTreeSet<usize>) -> Vec<BTreeSet<usize>> {
        let mut predecessors: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for &b in nodes {
            for &s in self.blocks[b].successors.iter().filter(|s| nodes.contains(s)) {
                predecessors.entry(s).or_default().push(b);
            }
        }
        // Kosaraju: finish times forwards, then each tree backwards is a component.
        let forwards = |b: usize| self.blocks[b].successors.iter().copied().filter(|s| nodes.contains(s)).collect();
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for &b in nodes {
            walk(b, &forwards, &mut seen, &mut order);
        }
        let backwards = |b: usize| predecessors.get(&b).cloned().unwrap_or_default();
        let mut seen = BTreeSet::new();
        let mut components = Vec::new();
        for &b in order.iter().rev() {
            let mut tree = Vec::new();
            walk(b, &backwards, &mut seen, &mut tree);
            if !tree.is_empty() {
                components.push(tree.into_iter().collect());
            }
        }
        components
    }
}

/// Vector multiply-adds among `body`.
fn fmas(body: &[&Instruction]) -> usize {
    body.iter().filter(|i| i.is_vector_fma()).count()
}

/// Depth first from `from`, in post-order, without recursion.
fn walk(from: usize, next: &impl Fn(usize) -> Vec<usize>, seen: &mut BTreeSet<usize>, order: &mut Vec<usize>) {
    if !seen.insert(from) {
        return;
    }
    let mut stack = vec![(from, next(from))];
    while let Some((block, left)) = stack.last_mut() {
        match left.pop() {
            Some(s) if seen.insert(s) => stack.push((s, next(s))),
            Some(_) => {}
            None => {
                order.push(*block);
                stack.pop();
            }
        }
    }
}

fn is_out_of_line(name: &str) -> bool {
    name.contains("core_arch::")
        || name.contains("::simd::Simd>::")
        || name.contains("simd::avx2::Avx2")
        || name.contains("simd::avx512::Avx512")
}

/// The functions of a listing.
pub fn parse(listing: &str) -> Vec<Function> {
    let lines: Vec<&str> = listing.lines().map(strip_comment).collect();
    let tables = jump_tables(&lines);
    let mut declared = BTreeSet::new();
    let mut functions = Vec::new();
    let mut i = 0;
    while i < lines.len() {
        let line = lines[i];
        i += 1;
        if let Some(symbol) = line.strip_prefix(".type").and_then(|l| l.trim().strip_suffix(",@function")) {
            declared.insert(symbol);
        } else if let Some(symbol) = line.strip_suffix(':').filter(|s| declared.contains(s)) {
            let end = (i..lines.len()).find(|&j| lines[j].starts_with(".size")).unwrap_or(lines.len());
            functions.push(function(symbol, &lines[i..end], &tables));
            i = end;
        }
    }
    functions
}

fn strip_comment(line: &str) -> &str {
    // Only rustc's data directives hold quoted '#'; no instruction does.
    line.split_once('#').map_or(line, |(code, _)| code).trim()
}

/// `.LJTI5_0` and the blocks that it sends to.
fn jump_tables<'a>(lines: &[&'a str]) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut tables: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in lines {
        let Some((target, table)) = line.strip_prefix(".long").and_then(|l| l.trim().split_once('-')) else { continue };
        if table.starts_with(".LJTI") {
            tables.entry(table).or_default().push(target);
        }
    }
    tables
}

fn function(symbol: &str, lines: &[&str], tables: &BTreeMap<&str, Vec<&str>>) -> Function {
    let mut blocks = vec![Block::default()];
    let mut labels: BTreeMap<&str, usize> = BTreeMap::new();
    // Jumps by block: (from, label), and whether the block falls through to the next.
    let mut jumps: Vec<(usize, &str)> = Vec::new();
    let mut falls = vec![true];
    let mut calls = BTreeSet::new();
    let mut frame_pointer = false;
    let mut table = None;
    for line in lines {
        if let Some(label) = line.strip_suffix(':') {
            if !blocks.last().expect("one block at least").instructions.is_empty() {
                blocks.push(Block::default());
                falls.push(true);
            }
            labels.insert(label, blocks.len() - 1);
            continue;
        }
        if line.is_empty() || line.starts_with('.') {
            continue;
        }
        let (mnemonic, operands) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let operands = operands.trim();
        let here = blocks.len() - 1;
        blocks[here].instructions.push(Instruction { mnemonic: mnemonic.to_string(), operands: operands.to_string() });
        frame_pointer |= mnemonic == "movq" && operands == "%rsp, %rbp";
        if let Some(at) = operands.find(".LJTI") {
            let name = &operands[at..];
            table = Some(&name[..name.find(['(', ',']).unwrap_or(name.len())]);
        }
        let ends = mnemonic.starts_with('j') || mnemonic.starts_with("ret") || mnemonic == "ud2";
        if mnemonic.starts_with("call") {
            calls.insert(callee(operands));
        } else if mnemonic.starts_with('j') {
            if operands.starts_with(".L") {
                jumps.push((here, operands));
            } else if operands.starts_with("*%") && table.is_some() {
                let targets = table.and_then(|t| tables.get(t)).into_iter().flatten();
                jumps.extend(targets.map(|t| (here, *t)));
            } else {
                calls.insert(callee(operands));
            }
        }
        if ends {
            falls[here] = mnemonic.starts_with('j') && !mnemonic.starts_with("jmp");
            blocks.push(Block::default());
            falls.push(true);
        }
    }
    for b in 0..blocks.len().saturating_sub(1) {
        if falls[b] {
            blocks[b].successors.push(b + 1);
        }
    }
    for (from, label) in jumps {
        if let Some(&to) = labels.get(label)
            && !blocks[from].successors.contains(&to)
        {
            blocks[from].successors.push(to);
        }
    }
    Function { name: demangle(symbol), blocks, calls, frame_pointer }
}

/// `*_RNv…@GOTPCREL(%rip)` is a call of `_RNv…`.
fn callee(operands: &str) -> String {
    let name = operands.trim_start_matches('*');
    if name.starts_with('%') || name.contains("(%r") && !name.contains("(%rip)") {
        return "?".to_string();
    }
    demangle(&name[..name.find(['@', '(']).unwrap_or(name.len())])
}

fn demangle(symbol: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(symbol))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tile's shape: an outer loop with an inner one of two multiply-adds, and a tail call.
    const TILE: &str = "
	.type	_RNvCs1_4demo4tile,@function
_RNvCs1_4demo4tile:
	.cfi_startproc
	pushq	%rbp
	movq	%rsp, %rbp
	vmovups	%ymm7, -64(%rbp)        # 32-byte Spill
.LBB0_1:
	xorl	%eax, %eax
	.p2align	4
.LBB0_2:
	vbroadcastss	8(%rsp), %ymm0
	vfmadd231ps	(%rsi), %ymm0, %ymm1
	vfmadd231ps	32(%rsi), %ymm0, %ymm2
	incq	%rax
	jne	.LBB0_2
	vfmadd231ps	%xmm0, %xmm0, %xmm1
	decq	%rdi
	jne	.LBB0_1
	jmpq	*_ZN4core9panicking5panic17h0123456789abcdefE@GOTPCREL(%rip)
.Lfunc_end0:
	.size	_RNvCs1_4demo4tile, .Lfunc_end0-_RNvCs1_4demo4tile
	.type	leaf,@function
leaf:
	retq
	.size	leaf, 1
";

    #[test]
    fn functions_calls_and_the_inner_loop() {
        let found = parse(TILE);
        assert_eq!(found.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["demo::tile", "leaf"]);
        let tile = &found[0];
        assert_eq!(tile.vector_fmas(), 2, "the xmm one does not count");
        assert_eq!(tile.calls().iter().collect::<Vec<_>>(), ["core::panicking::panic"]);
        assert!(tile.out_of_line().is_empty());
        assert_eq!(tile.inner_loop().map(|l| l.len()), Some(5));
        assert!(tile.spills_and_calls_in_inner_loops().is_empty(), "a broadcast from the stack is no spill");
        assert!(found[1].inner_loop().is_none() && found[1].calls().is_empty());
    }

    #[test]
    fn a_spill_counts_in_the_inner_loop_only() {
        for (spill, bad) in [
            ("vmovups	%ymm7, 96(%rsp)", true),
            ("vfmadd231ps	-32(%rbp), %ymm0, %ymm3", true),
            ("callq	memcpy@PLT", true),
            ("movq	%rdx, 8(%rsp)", false),
            ("vmovups	%ymm7, 96(%rdi)", false),
        ] {
            let inside = TILE.replace("	incq	%rax", &format!("	{spill}\n	incq	%rax"));
            assert_eq!(parse(&inside)[0].spills_and_calls_in_inner_loops().len(), bad as usize, "{spill}");
            let outside = TILE.replace("	decq	%rdi", &format!("	{spill}\n	decq	%rdi"));
            assert!(parse(&outside)[0].spills_and_calls_in_inner_loops().is_empty(), "{spill}");
        }
        // %rbp holds data where the function sets up no frame.
        let inside = TILE.replace("	incq	%rax", "	vmovups	%ymm7, (%rbp)\n	incq	%rax");
        let data = inside.replace("	movq	%rsp, %rbp\n", "");
        assert!(parse(&data)[0].spills_and_calls_in_inner_loops().is_empty());
    }

    #[test]
    fn intrinsics_and_methods_out_of_line_are_seen() {
        for (symbol, bad) in [
            ("_RNvNtNtNtCs1_4core9core_arch3x863fma15__mm256_fmadd_ps", true),
            ("_RINvCs1_4demo6helperNtNtNtCs2_15longhand_tensor4simd4avx24Avx2EB2_", true),
            ("_RNvXs_NtNtCs2_15longhand_tensor4simd4avx2NtB4_4Avx2NtB6_4Simd3add", true),
            ("_RNvNtCs1_4core9panicking5panic", false),
            ("_RINvNtNtCs2_15longhand_tensor4simd4avx210trampolineNtCs1_4demo4KernEB2_", false),
        ] {
            let call = TILE.replace("	incq	%rax", &format!("	callq	*{symbol}@GOTPCREL(%rip)\n	incq	%rax"));
            let tile = &parse(&call)[0];
            assert_eq!(tile.out_of_line().len(), bad as usize, "{symbol}: {:?}", tile.calls());
        }
    }

    #[test]
    fn a_loop_through_a_jump_table_is_a_loop() {
        let listing = "
	.type	f,@function
f:
	leaq	.LJTI0_0(%rip), %rdx
.LBB0_1:
	movslq	(%rdx,%rax,4), %rcx
	addq	%rdx, %rcx
	jmpq	*%rcx
.LBB0_2:
	retq
.LBB0_3:
	vfmadd231ps	%zmm0, %zmm1, %zmm2
	vmovups	%zmm2, (%rsp)
	jmp	.LBB0_1
	.size	f, 1
.LJTI0_0:
	.long	.LBB0_2-.LJTI0_0
	.long	.LBB0_3-.LJTI0_0
";
        let f = &parse(listing)[0];
        assert_eq!(f.inner_loop().map(|l| l.len()), Some(6));
        assert_eq!(f.spills_and_calls_in_inner_loops().len(), 1);
        assert!(f.calls().is_empty());
    }
}
