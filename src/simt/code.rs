//! What a kernel is lowered to: structured blocks of instructions over registers.
//!
//! Every scalar of a value has a register of its own, which holds it for all invocations of a
//! workgroup; vectors, matrices and structs are lists of registers, so that taking them apart and
//! putting them together costs nothing. Calls are expanded in place: WGSL has no recursion.

/// A register: one scalar of every invocation, or, with [`MATRIX`] set, one cooperative matrix of
/// every subgroup.
pub(super) type Slot = u32;

/// Marks registers that hold cooperative matrices.
pub(super) const MATRIX: Slot = 1 << 31;

/// An offset that leads nowhere: what an index out of range becomes.
pub(super) const NOWHERE: u32 = u32::MAX;

/// How the bits of a register are read. An f16 lies in the low half; a bool is 0 or 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Bool,
    I32,
    U32,
    F32,
    F16,
}

impl Kind {
    pub fn bytes(self) -> u32 {
        if self == Self::F16 { 2 } else { 4 }
    }

    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16)
    }
}

/// An operation on one scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Un {
    Neg,
    Not,
    Abs,
    Sign,
    Cos,
    Cosh,
    Sin,
    Sinh,
    Tan,
    Tanh,
    Acos,
    Asin,
    Atan,
    Asinh,
    Acosh,
    Atanh,
    Ceil,
    Floor,
    Round,
    Fract,
    Trunc,
    Exp,
    Exp2,
    Log,
    Log2,
    Sqrt,
    InverseSqrt,
    QuantizeToF16,
    FrexpFraction,
    FrexpExponent,
    CountTrailingZeros,
    CountLeadingZeros,
    CountOneBits,
    ReverseBits,
    FirstTrailingBit,
    FirstLeadingBit,
    IsNan,
    IsInf,
}

/// An operation on two scalars of one kind; shifts take a u32 on the right, ldexp an i32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bin {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    And,
    Or,
    Xor,
    Shl,
    Shr,
    Min,
    Max,
    Pow,
    Atan2,
    Ldexp,
}

impl Bin {
    pub fn compares(self) -> bool {
        matches!(self, Self::Eq | Self::Ne | Self::Lt | Self::Le | Self::Gt | Self::Ge)
    }
}

/// Bits of one component packed into a word, or taken out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pack {
    Snorm8,
    Unorm8,
    Snorm16,
    Unorm16,
    Float16,
    I8,
    U8,
    I8Clamp,
    U8Clamp,
}

impl Pack {
    /// Bits of a component.
    pub fn bits(self) -> u32 {
        if matches!(self, Self::Snorm16 | Self::Unorm16 | Self::Float16) { 16 } else { 8 }
    }
}

/// How a collective joins two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Join {
    Bin(Bin),
    All,
    Any,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scan {
    Reduce,
    Inclusive,
    Exclusive,
}

/// Whose value an invocation gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gather {
    First,
    Broadcast(Slot),
    Shuffle(Slot),
    Down(Slot),
    Up(Slot),
    Xor(Slot),
    QuadBroadcast(Slot),
    /// The invocation within the quad is xored with this.
    QuadSwap(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Atomic {
    Bin(Bin),
    Exchange,
    /// Exchange where the value equals this one; the second register gets whether it did.
    CompareExchange(Slot, Slot),
}

/// What an index is checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// So many elements.
    Fixed(u32),
    /// As many elements as the buffer bound to this variable holds from this byte on.
    Runtime { var: usize, first: u32, stride: u32 },
}

/// A scalar in memory: its register, its byte offset, its kind.
pub(super) type Leaf = (Slot, u32, Kind);

/// Where memory is touched.
#[derive(Clone, Debug)]
pub(super) struct Address {
    /// Index of the variable in [`Program::vars`](super::program::Program).
    pub var: usize,
    /// Bytes behind the leaves' own offsets, by invocation.
    pub dynamic: Option<Slot>,
    /// Accesses of atomics do not race.
    pub atomic: bool,
}

/// A matrix in memory.
#[derive(Clone, Debug)]
pub(super) struct Tile {
    pub address: Address,
    pub offset: u32,
    /// Elements of the pointee between rows or columns, and the bytes of such an element.
    pub stride: Slot,
    pub unit: u32,
    pub row_major: bool,
    pub shape: MatrixShape,
}

/// Rows, columns and element type of a cooperative matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MatrixShape {
    pub rows: usize,
    pub columns: usize,
    pub kind: Kind,
}

/// What one step computes. The site is the line it stands in.
#[derive(Clone, Debug)]
pub(super) enum Instr {
    /// Writes a variable: only active invocations change.
    Copy {
        dst: Slot,
        src: Slot,
    },
    /// Reads a variable.
    Move {
        dst: Slot,
        src: Slot,
    },
    Un {
        op: Un,
        kind: Kind,
        dst: Slot,
        a: Slot,
    },
    /// `fused`: a sum of a product, which a GPU computes with it.
    Bin {
        op: Bin,
        kind: Kind,
        dst: Slot,
        a: Slot,
        b: Slot,
        fused: bool,
    },
    Fma {
        kind: Kind,
        dst: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
    },
    Select {
        dst: Slot,
        condition: Slot,
        yes: Slot,
        no: Slot,
    },
    Convert {
        from: Kind,
        to: Kind,
        dst: Slot,
        a: Slot,
    },
    Pack {
        how: Pack,
        dst: Slot,
        parts: Box<[Slot]>,
    },
    Unpack {
        how: Pack,
        dst: Slot,
        word: Slot,
        part: u32,
    },
    /// `offset`, `count` bits; signed results are extended.
    ExtractBits {
        signed: bool,
        dst: Slot,
        a: Slot,
        offset: Slot,
        count: Slot,
    },
    InsertBits {
        dst: Slot,
        a: Slot,
        new: Slot,
        offset: Slot,
        count: Slot,
    },
    /// The sum of products of bytes.
    Dot4 {
        signed: bool,
        dst: Slot,
        a: Slot,
        b: Slot,
    },
    /// `dst = previous + index * stride` for indices inside the bound, else [`NOWHERE`].
    Index {
        dst: Slot,
        previous: Option<Slot>,
        index: Slot,
        signed: bool,
        stride: u32,
        bound: Bound,
        name: u32,
    },
    /// A register out of a list, by index.
    Pick {
        dst: Slot,
        from: Box<[Slot]>,
        index: Slot,
    },
    /// The register `base + dynamic`, of variables that are indexed.
    ReadVar {
        dst: Slot,
        base: Slot,
        dynamic: Slot,
    },
    WriteVar {
        base: Slot,
        dynamic: Slot,
        src: Slot,
    },
    /// Private memory is read here, or written: `count` registers from `base` on.
    PrivateRead {
        base: Slot,
        count: u32,
        dynamic: Option<Slot>,
        name: u32,
    },
    PrivateWrite {
        base: Slot,
        count: u32,
        dynamic: Option<Slot>,
    },
    Load {
        at: Address,
        leaves: Box<[Leaf]>,
    },
    Store {
        at: Address,
        leaves: Box<[Leaf]>,
    },
    Atomic {
        at: Address,
        offset: u32,
        kind: Kind,
        op: Atomic,
        value: Slot,
        dst: Option<Slot>,
    },
    /// Elements of a runtime-sized array.
    Length {
        dst: Slot,
        bound: Bound,
    },
    Ballot {
        dst: [Slot; 4],
        predicate: Option<Slot>,
    },
    Collective {
        join: Join,
        scan: Scan,
        kind: Kind,
        dst: Slot,
        a: Slot,
    },
    Gather {
        how: Gather,
        dst: Slot,
        a: Slot,
    },
    LoadMatrix {
        dst: Slot,
        tile: Box<Tile>,
    },
    StoreMatrix {
        src: Slot,
        tile: Box<Tile>,
    },
    MultiplyAdd {
        dst: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
        left: MatrixShape,
        out: MatrixShape,
    },
    /// Element by element on matrices; with a scalar register on the right, by it.
    MatrixBin {
        op: Bin,
        dst: Slot,
        a: Slot,
        b: Slot,
        shape: MatrixShape,
    },
    /// Every element of a matrix is this scalar.
    MatrixFill {
        dst: Slot,
        a: Slot,
        shape: MatrixShape,
    },
}

/// An instruction and the index of its site.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub instr: Instr,
    pub site: u32,
}

/// Which memory a barrier orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Orders {
    pub workgroup: bool,
    pub storage: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Case {
    pub values: Vec<u32>,
    pub default: bool,
    pub body: Vec<Step>,
}

/// A step of structured control flow.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Do(Line),
    If {
        condition: Slot,
        accept: Vec<Step>,
        reject: Vec<Step>,
    },
    /// Bodies as they are entered: cases that fall through hold what follows, too.
    Switch {
        selector: Slot,
        cases: Vec<Case>,
    },
    Loop {
        body: Vec<Step>,
        continuing: Vec<Step>,
        break_if: Option<Slot>,
        site: u32,
    },
    /// An expanded call: what returns in it goes on behind it.
    Call {
        body: Vec<Step>,
    },
    Break,
    Continue,
    Return,
    /// Of the workgroup. One that the text does not write, as in `workgroupUniformLoad`, has no note.
    Barrier {
        orders: Orders,
        site: u32,
        written: bool,
    },
    SubgroupBarrier {
        site: u32,
    },
    /// All active invocations must hold one value.
    Uniform {
        slot: Slot,
        site: u32,
    },
}
