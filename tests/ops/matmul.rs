//! What the case list of matmul cannot say: weights in parts, descriptions by name, complaints.

use tilewright::Error;
use tilewright::gpu::{Gpu, GpuOptions};
use tilewright::ops::{Activation, Layout, Matmul, Request, Rng, RunOptions, Tolerance, find, run};
use tilewright::tensor::{DType, Sizes, Tensor};

use crate::common;

fn reference(op: &Matmul, inputs: &[Option<Tensor>]) -> Tensor {
    use tilewright::ops::{Args, Op};
    let tensors: Vec<_> = inputs.iter().map(Option::as_ref).collect();
    let args = Args { op: "matmul", tensors: &tensors, sizes: &Sizes::default() };
    op.reference(&args).expect("the operands are valid").remove(0)
}

fn check(gpu: &Gpu, op: &Matmul, inputs: &[Option<Tensor>], options: RunOptions<'_>) {
    let want = reference(op, inputs);
    let got = run(gpu, op, inputs, &Sizes::default(), options).expect("it runs").remove(0);
    let found = Tolerance::f32(1e-4, 1e-5).compare(&got, &want, 0).expect("equal shapes");
    assert!(found.passed, "{options:?}: {found:?}");
}

#[test]
fn a_weight_in_parts_gives_the_same_columns() {
    let gpu = common::open(GpuOptions { checked: true, ..GpuOptions::default() });
    let mut rng = Rng::new(5);
    let op = Matmul { activation: Activation::Relu, ..Matmul::linear() };
    for m in [1, 11] {
        for (k, dtype) in [(40, DType::F32), (40, DType::F16), (7, DType::F32), (96, DType::I8)] {
            let inputs = [
                Some(rng.tensor([m, k])),
                Some(rng.tensor([83, k]).cast(dtype).expect("a float dtype")),
                Some(rng.tensor([83])),
                Some(rng.tensor([m, 83])),
            ];
            // Three blocks a row: parts of 5 rows begin within a word of scales.
            let odd = if dtype == DType::I8 { 5 } else { 16 };
            for rows in [16, 80, odd] {
                let options = RunOptions { rows_per_part: Some(rows), ..RunOptions::default() };
                check(&gpu, &op, &inputs, options);
            }
        }
    }
}

#[test]
fn blocks_lie_along_the_dimension_that_is_summed_over() {
    use tilewright::ops::{Op, infer};
    use tilewright::tensor::Meta;
    let weight = Meta { shape: [64, 64].into(), dtype: DType::I8 };
    let inputs = [Some(Meta::f32([3, 64])), Some(weight), None, None];
    for layout in [Layout::Nt, Layout::Nn] {
        let op = Matmul::plain(layout);
        let found = infer(&op, &inputs, &Sizes::default()).map(drop).map_err(|e| e.to_string());
        let refused = "matmul: weight q8_0[64, 64] must be stored [n, k], not as in Nn";
        let want = if op.takes_blocks(1) { Ok(()) } else { Err(refused.to_owned()) };
        assert_eq!(found, want);
    }
}

#[test]
fn weights_per_batch_are_parted_by_batch() {
    let gpu = common::open(GpuOptions { checked: true, ..GpuOptions::default() });
    let mut rng = Rng::new(6);
    let op = Matmul::linear();
    let inputs = [Some(rng.tensor([4, 2, 9, 12])), Some(rng.tensor([4, 2, 5, 12])), None, None];
    let options = RunOptions { rows_per_part: Some(3), ..RunOptions::default() };
    check(&gpu, &op, &inputs, options);
}

#[test]
fn a_description_by_name_builds_the_op() {
    let mut rng = Rng::new(7);
    let mut request = Request::new("matmul")
        .tensor("a", rng.tensor([3, 4]))
        .tensor("b", rng.tensor([5, 4]))
        .setting("layout", "NT")
        .setting("activation", "gelu_erf");
    let (op, inputs) =
        (find("matmul").expect("it is registered").build)(&mut request).expect("it is complete");
    request.finish().expect("nothing is left");
    assert_eq!(inputs.len(), 4);
    let op = op.downcast::<Matmul>().expect("a matmul");
    assert_eq!(*op, Matmul { activation: Activation::GeluErf, ..Matmul::linear() });
}

#[test]
fn complaints_quote_the_shapes() {
    use tilewright::ops::run_cpu;
    let mut rng = Rng::new(8);
    let op = Matmul::linear();
    let fails = |inputs: [Option<Tensor>; 4], words: &[&str]| {
        let error: Error = run_cpu(&op, &inputs, &Sizes::default()).expect_err("bad operands");
        let text = error.to_string();
        assert!(text.starts_with("matmul: "), "{text}");
        assert!(words.iter().all(|w| text.contains(w)), "{text}");
    };
    let (x, w) = (rng.tensor([3, 4]), rng.tensor([5, 4]));
    fails([Some(x.clone()), Some(rng.tensor([5, 6])), None, None], &["[3, 4]", "[5, 6]"]);
    fails([Some(x.clone()), Some(w.clone()), Some(rng.tensor([4])), None], &["bias", "[4]", "[5]"]);
    fails([Some(x.clone()), Some(w), None, Some(rng.tensor([3, 4]))], &["residual", "[3, 5]"]);
    fails([Some(x), None, None, None], &["weight"]);
}
