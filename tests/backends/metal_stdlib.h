// Stands for Metal's library, so that clang reads the MSL of our kernels as C++ for OpenCL. That
// language tells the address spaces apart as Metal does: a reference to `device` memory meets no
// parameter that is `thread`. Declarations only: nothing here is run.
#pragma once

#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#define kernel
#define device __global
#define threadgroup __local
#define constant __constant
#define thread __private
// Words of OpenCL that are names in Metal.
#define local local_
#define global global_
#define generic generic_

typedef __SIZE_TYPE__ size_t;
typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;

namespace metal {

using ::uchar;
using ::uint;
using ::ushort;

// Vectors. A comparison of vectors gives integers in OpenCL, so that a vector of bool is one.
#define VECTOR(T, NAME, N) typedef T NAME##N __attribute__((ext_vector_type(N)));
#define VECTORS(T, NAME) VECTOR(T, NAME, 2) VECTOR(T, NAME, 3) VECTOR(T, NAME, 4)
VECTORS(float, float)
VECTORS(half, half)
VECTORS(int, int)
VECTORS(uint, uint)
VECTORS(short, short)
VECTORS(ushort, ushort)
VECTORS(char, char)
VECTORS(uchar, uchar)
typedef char4 packed_char4;
typedef uchar4 packed_uchar4;
typedef int2 bool2;
typedef int3 bool3;
typedef int4 bool4;

template <typename T> struct Width { static constexpr int n = 1; };
#define WIDTH(NAME, N) template <> struct Width<NAME##N> { static constexpr int n = N; };
#define WIDTHS(NAME) WIDTH(NAME, 2) WIDTH(NAME, 3) WIDTH(NAME, 4)
WIDTHS(float)
WIDTHS(half)
WIDTHS(int)
WIDTHS(uint)
WIDTHS(short)
WIDTHS(ushort)
WIDTHS(char)
WIDTHS(uchar)

// A vector from one scalar for all, or from parts that have as many components as it.
template <typename V, typename... Parts> V make(Parts...) {
    static_assert((Width<Parts>::n + ...) == Width<V>::n || (sizeof...(Parts) == 1 && (Width<Parts>::n + ...) == 1),
                  "parts of another width");
    return V{};
}
#define MAKE(NAME, N) \
    template <typename... Parts> NAME##N make_##NAME##N(Parts... parts) { return make<NAME##N>(parts...); }
#define MAKES(NAME) MAKE(NAME, 2) MAKE(NAME, 3) MAKE(NAME, 4)
MAKES(float)
MAKES(half)
MAKES(int)
MAKES(uint)
MAKES(short)
MAKES(ushort)
MAKES(char)
MAKES(uchar)
MAKES(bool)

template <typename T, typename U> T convert(U) {
    static_assert(Width<T>::n == Width<U>::n || Width<U>::n == 1, "another width");
    return T{};
}

// Matrices of columns.
template <typename T, int N> using Vector = T __attribute__((ext_vector_type(N)));
template <typename Column, int N> struct Matrix {
    Column columns[N];
    template <typename... Columns> explicit Matrix(Columns... c) : columns{c...} {}
    Matrix() = default;
    Column& operator[](uint i) { return columns[i]; }
    Column operator[](uint i) const { return columns[i]; }
};
#define MATRICES(T, R) \
    typedef Matrix<T##R, 2> T##2x##R; typedef Matrix<T##R, 3> T##3x##R; typedef Matrix<T##R, 4> T##4x##R;
MATRICES(float, 2) MATRICES(float, 3) MATRICES(float, 4) MATRICES(half, 2) MATRICES(half, 3) MATRICES(half, 4)
template <typename C, int N, typename V> C operator*(Matrix<C, N> m, V) {
    static_assert(Width<V>::n == N, "a vector of another width");
    return m[0];
}
template <typename T, int N, int M> Vector<T, M> operator*(Vector<T, N> v, Matrix<Vector<T, N>, M>) { return v.x; }
template <typename C, int N> Matrix<C, N> operator*(Matrix<C, N> m, float) { return m; }
template <typename C, int N> Matrix<C, N> operator*(float, Matrix<C, N> m) { return m; }
template <typename C, int N> Matrix<C, N> operator+(Matrix<C, N> m, Matrix<C, N>) { return m; }
template <typename C, int N> Matrix<C, N> operator-(Matrix<C, N> m, Matrix<C, N>) { return m; }
template <typename T, int N, int M>
Matrix<Vector<T, M>, N> transpose(Matrix<Vector<T, N>, M>) { return Matrix<Vector<T, M>, N>(); }

// Functions of one, two and three values of a type; vectors and scalars alike.
#define ONE(NAME) template <typename T> T NAME(T x) { return x; }
#define TWO(NAME) template <typename T> T NAME(T x, T) { return x; }
#define THREE(NAME) template <typename T> T NAME(T x, T, T) { return x; }
ONE(abs) ONE(sign) ONE(exp) ONE(exp2) ONE(log) ONE(log2) ONE(sqrt) ONE(rsqrt) ONE(sin) ONE(cos) ONE(tan)
ONE(sinh) ONE(cosh) ONE(tanh) ONE(asin) ONE(acos) ONE(atan) ONE(floor) ONE(ceil) ONE(trunc) ONE(rint)
ONE(round) ONE(fract) ONE(saturate) ONE(normalize) ONE(popcount) ONE(clz) ONE(ctz) ONE(reverse_bits)
TWO(min) TWO(max) TWO(pow) TWO(fmod) TWO(atan2) TWO(step) TWO(ldexp)
THREE(fma) THREE(clamp) THREE(mix) THREE(smoothstep)
template <typename T, typename B> T select(T a, T, B) {
    static_assert(Width<T>::n == Width<B>::n, "a choice of another width");
    return a;
}
#define COMPONENT(NAME) template <typename T> auto NAME(T a, T) { return a.x; }
COMPONENT(dot) COMPONENT(distance)
template <typename T> auto length(T x) { return x.x; }
template <typename T> bool all(T) { return true; }
template <typename T> bool any(T) { return true; }
template <typename T> bool isnan(T) { return false; }
template <typename T> bool isinf(T) { return false; }
template <typename T> T extract_bits(T x, uint, uint) { return x; }
template <typename T> T insert_bits(T x, T, uint, uint) { return x; }
float2 unpack_snorm2x16_to_float(uint);
float2 unpack_unorm2x16_to_float(uint);
float4 unpack_snorm4x8_to_float(uint);
float4 unpack_unorm4x8_to_float(uint);
uint pack_float_to_snorm2x16(float2);
uint pack_float_to_unorm2x16(float2);
uint pack_float_to_snorm4x8(float4);
uint pack_float_to_unorm4x8(float4);

// Barriers.
enum class mem_flags { mem_none = 0, mem_device = 1, mem_threadgroup = 2, mem_texture = 4 };
inline mem_flags operator|(mem_flags a, mem_flags) { return a; }
void threadgroup_barrier(mem_flags);
void simdgroup_barrier(mem_flags);

// Operations of a subgroup.
ONE(simd_sum) ONE(simd_product) ONE(simd_min) ONE(simd_max) ONE(simd_and) ONE(simd_or) ONE(simd_xor)
ONE(simd_prefix_inclusive_sum) ONE(simd_prefix_exclusive_sum) ONE(simd_prefix_inclusive_product)
ONE(simd_prefix_exclusive_product) ONE(simd_broadcast_first)
#define LANE(NAME) template <typename T> T NAME(T x, ushort) { return x; }
LANE(simd_broadcast) LANE(simd_shuffle) LANE(simd_shuffle_xor) LANE(simd_shuffle_up)
LANE(simd_shuffle_down) LANE(quad_broadcast) LANE(quad_shuffle_xor)
bool simd_any(bool);
bool simd_all(bool);
bool simd_is_first();
struct simd_vote {
    explicit operator ulong() const;
};
simd_vote simd_ballot(bool);

// Atomics, of 32-bit integers.
enum memory_order { memory_order_relaxed };
struct atomic_uint { uint held; };
struct atomic_int { int held; };
#define ATOMIC(SPACE, A, T) \
    T atomic_load_explicit(SPACE const A*, memory_order); \
    void atomic_store_explicit(SPACE A*, T, memory_order); \
    T atomic_exchange_explicit(SPACE A*, T, memory_order); \
    T atomic_fetch_add_explicit(SPACE A*, T, memory_order); \
    T atomic_fetch_sub_explicit(SPACE A*, T, memory_order); \
    T atomic_fetch_min_explicit(SPACE A*, T, memory_order); \
    T atomic_fetch_max_explicit(SPACE A*, T, memory_order); \
    T atomic_fetch_and_explicit(SPACE A*, T, memory_order); \
    T atomic_fetch_or_explicit(SPACE A*, T, memory_order); \
    T atomic_fetch_xor_explicit(SPACE A*, T, memory_order); \
    bool atomic_compare_exchange_weak_explicit(SPACE A*, thread T*, T, memory_order, memory_order);
ATOMIC(device, atomic_uint, uint)
ATOMIC(device, atomic_int, int)
ATOMIC(threadgroup, atomic_uint, uint)
ATOMIC(threadgroup, atomic_int, int)

// Matrices of a subgroup: 8x8 only.
typedef ulong ulong2 __attribute__((ext_vector_type(2)));
template <typename T> struct Simdgroup8x8 { T held[2]; };
typedef Simdgroup8x8<float> simdgroup_float8x8;
typedef Simdgroup8x8<half> simdgroup_half8x8;
#define MATRIX(SPACE) \
    template <typename T> \
    void simdgroup_load(thread Simdgroup8x8<T>&, const SPACE T*, ulong = 8, ulong2 = 0, bool = false); \
    template <typename T> \
    void simdgroup_store(Simdgroup8x8<T>, SPACE T*, ulong = 8, ulong2 = 0, bool = false);

MATRIX(device)
MATRIX(threadgroup)
template <typename D, typename A, typename B, typename C>
void simdgroup_multiply_accumulate(thread Simdgroup8x8<D>&, Simdgroup8x8<A>, Simdgroup8x8<B>, Simdgroup8x8<C>);

}  // namespace metal

template <typename T, typename U> T as_type(U x) { return __builtin_astype(x, T); }
// Metal's types and the matrices' functions are there without their namespace too.
using namespace metal;
