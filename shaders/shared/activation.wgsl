// Activation functions, each finite for every finite input: far out they give x, 0, 1 or -1.
// `activate` applies the one chosen by ACT: 0 none, 1 relu, 2 gelu_erf, 3 gelu_tanh, 4 tanh,
// 5 silu, 6 quick_gelu, 7 sigmoid.
const ACT: u32 = 0u;

fn relu(x: f32) -> f32 {
    return max(x, 0.0);
}

// erf(x) = x P(x^2) / Q(x^2), a weighted least-squares fit over |x| < 3.95 (1.4e-9 in exact
// arithmetic, 4e-7 in f32); beyond, 1 - |erf| < 2.4e-8. An exact +-1 there matters: gelu_erf
// multiplies 1 + erf by x.
fn erf(x: f32) -> f32 {
    let c = clamp(x, -3.95, 3.95);
    let z = c * c;
    var p = fma(z, -1.3477356e-8, 4.7444796e-6);
    p = fma(z, p, 3.8135887e-4);
    p = fma(z, p, 3.8355649e-3);
    p = fma(z, p, 5.4301873e-2);
    p = fma(z, p, 1.8470903e-1);
    p = fma(z, p, 1.1283792);
    var q = fma(z, 6.366968e-5, 1.3069926e-3);
    q = fma(z, q, 1.5440846e-2);
    q = fma(z, q, 1.1379873e-1);
    q = fma(z, q, 4.9702764e-1);
    q = fma(z, q, 1.0);
    return select(c * p / q, sign(x), abs(x) >= 3.95);
}

// 0.5 x (1 + erf(x / sqrt 2)): Hendrycks and Gimpel 2016, exact form.
fn gelu_erf(x: f32) -> f32 {
    return 0.5 * x * (1.0 + erf(x * 0.70710678));
}

// 1 / (1 + exp(-x)) in the form whose exponential cannot overflow.
fn sigmoid(x: f32) -> f32 {
    let e = exp(-min(abs(x), 87.0));
    return select(e, 1.0, x >= 0.0) / (1.0 + e);
}

// 0.5 x (1 + tanh(u)) = x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3): the same paper's
// approximation. Below -9 the true value is under 1e-27.
fn gelu_tanh(x: f32) -> f32 {
    let c = clamp(x, -9.0, 9.0);
    let u = 0.79788456 * c * (1.0 + 0.044715 * c * c);
    return select(x * sigmoid(2.0 * u), 0.0, x < -9.0);
}

// Series for small |x|, where 1 - exp(-2|x|) cancels; exactly +-1 from 9.1 on. Written out
// because drivers give NaN for large arguments of the built-in.
fn tanh_safe(x: f32) -> f32 {
    let z = x * x;
    let e = exp(-2.0 * min(abs(x), 10.0));
    let series = x * (1.0 + z * (-0.33333333 + z * (0.13333333 + z * (-0.053968254 + z * 0.021869488))));
    let large = select(sign(x) * (1.0 - e) / (1.0 + e), sign(x), abs(x) >= 9.1);
    return select(large, series, abs(x) < 0.25);
}

// x sigmoid(x). Below -87 the true value is under 1e-36.
fn silu(x: f32) -> f32 {
    return select(x * sigmoid(x), 0.0, x < -87.0);
}

// x sigmoid(1.702 x), with the product kept from overflowing.
fn quick_gelu(x: f32) -> f32 {
    return select(x * sigmoid(1.702 * clamp(x, -51.0, 51.0)), 0.0, x < -51.0);
}

fn activate(x: f32) -> f32 {
    if (ACT == 1u) {
        return relu(x);
    }
    if (ACT == 2u) {
        return gelu_erf(x);
    }
    if (ACT == 3u) {
        return gelu_tanh(x);
    }
    if (ACT == 4u) {
        return tanh_safe(x);
    }
    if (ACT == 5u) {
        return silu(x);
    }
    if (ACT == 6u) {
        return quick_gelu(x);
    }
    if (ACT == 7u) {
        return sigmoid(x);
    }
    return x;
}
