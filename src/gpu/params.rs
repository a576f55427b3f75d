//! Parameter blocks: the Rust twins of WGSL's `struct Params`.

/// One field of a parameter block: a 4-byte scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// Name in the Rust struct and in the WGSL struct.
    pub name: &'static str,
    /// `u32`, `i32` or `f32`.
    pub ty: &'static str,
    /// Byte offset.
    pub offset: usize,
}

/// The largest parameter block: what every Vulkan device takes as push constants.
pub const MAX_PARAMS: usize = 128;

/// A parameter block's bytes, ready to be set as immediates.
#[derive(Clone, Copy, Debug)]
pub struct ParamBytes {
    bytes: [u8; MAX_PARAMS],
    len: usize,
}

impl ParamBytes {
    /// The bytes of a parameter struct declared with [`params!`](crate::params).
    pub fn of<T: bytemuck::Pod>(params: &T) -> Self {
        const { assert!(size_of::<T>() <= MAX_PARAMS) };
        let source = bytemuck::bytes_of(params);
        let mut bytes = [0; MAX_PARAMS];
        bytes[..source.len()].copy_from_slice(source);
        Self { bytes, len: source.len() }
    }

    /// The bytes that are set.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Declares the Rust twin of a WGSL `struct Params` of 4-byte scalars, with the field table
/// that is compared with naga's reflection when a pipeline is made.
#[macro_export]
macro_rules! params {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[$fmeta:meta])* $field:ident: $ty:ident),* $(,)? }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
        $vis struct $name { $($(#[$fmeta])* $vis $field: $ty),* }

        impl $name {
            /// Field table, checked against the shader's own struct.
            $vis const FIELDS: &'static [$crate::gpu::Field] = &[$($crate::gpu::Field {
                name: stringify!($field),
                ty: stringify!($ty),
                offset: std::mem::offset_of!($name, $field),
            }),*];
        }
    };
}
