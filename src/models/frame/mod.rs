//! What families of one kind share. The frames ([`decoder`], [`encoder`], [`seq2seq`]) build a
//! whole graph around the parts that a family writes; the other files are parts to write it of.

pub mod bert_like;
pub mod decoder;
pub mod encoder;
pub mod grouped;
pub mod heads;
pub mod outputs;
pub mod post_norm;
pub mod rope;
pub mod seq2seq;
pub mod sizes;
pub mod unused;
