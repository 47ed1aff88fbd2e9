"""A vector of 16 float32 numbers ("lanes") for Numba, and the operations that the kernels are written with.

Each operation has one result on every processor: multiply-add is fused, sums have a fixed order, and nothing is left to
an auto-vectoriser or a mathematics library. LLVM only chooses the registers: one of AVX-512, two of AVX2, four of NEON.

An array is one-dimensional and contiguous, and `at` is the index of its first number. `rows` is a tuple of lanes: a
tile of results that stays in registers.
"""

import functools
import operator

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.typing.templates import ConcreteTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, models, register_model

L = 16  # lanes

_F32, _I32, _I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_V, _VI = ir.VectorType(_F32, L), ir.VectorType(_I32, L)

inlined = njit(forceinline=True, boundscheck=False, error_model="numpy", nogil=True)


class Lanes(types.Type):
    def __init__(self):
        super().__init__("float32x16")


lanes = Lanes()


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, numba_type):
        super().__init__(manager, numba_type, _V)


def _operation(result):
    """Make an operation of `generate(builder, *arguments)`, which returns its value, or a list for a tuple.

    result: the type of the value, or a function of the argument types that returns it. generate gets an array as an
    _Array, a tuple as a list, and a whole number that is written in the kernel as an int.
    """

    def make(generate):
        def typed(context, *kinds):
            return (result if isinstance(result, types.Type) else result(*kinds))(*kinds), lower

        def lower(context, builder, signature, values):
            unpacked = (_unpack(context, builder, *given) for given in zip(signature.args, values, strict=True))
            value = generate(builder, *unpacked)
            if isinstance(value, list):
                return cgutils.pack_array(builder, value)
            return context.get_dummy_value() if value is None else value

        functools.update_wrapper(typed, generate)  # Numba reads the signature
        return intrinsic(prefer_literal=True)(typed)

    return make


def _unpack(context, builder, kind, value):
    if isinstance(kind, types.Array):
        return _Array(builder, context.make_array(kind)(context, builder, value).data)
    if isinstance(kind, types.UniTuple):
        return cgutils.unpack_tuple(builder, value)
    return kind.literal_value if isinstance(kind, types.IntegerLiteral) else value


def _counted(*kinds):
    return types.UniTuple(lanes, kinds[-1].literal_value)  # as many as the last argument says


class _Array:
    """An array whose index is given as a sum of terms; a pair among them is a product."""

    def __init__(self, builder, data):
        self.builder, self.data = builder, data

    def _pointer(self, terms, kind):
        index = _I64(0)
        for term in terms:
            factors = [_I64(f) if isinstance(f, int) else f for f in (term if isinstance(term, tuple) else (term,))]
            index = self.builder.add(index, factors[0] if len(factors) == 1 else self.builder.mul(*factors))
        return self.builder.bitcast(self.builder.gep(self.data, [index]), kind.as_pointer())

    def load(self, *terms, kind=_V):
        return self.builder.load(self._pointer(terms, kind), align=4)

    def store(self, value, *terms):
        self.builder.store(value, self._pointer(terms, _V), align=4)


def _all(number, kind=_V):
    return ir.Constant(kind, [number] * L)


def _shuffle(builder, a, b, mask):
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, len(mask)), mask))


def _splat(builder, number):
    nothing = ir.Constant(_V, ir.Undefined)
    return _shuffle(builder, builder.insert_element(nothing, number, _I32(0)), nothing, [0] * L)


def _fma(builder, a, b, c):
    kind = ir.FunctionType(_V, [_V] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{L}f32"), [a, b, c])


# One vector: a number in all lanes; a * b + c, rounded once; load and store; the larger (smaller) of a and b, where NaN
# in a stays; a + b, a - b, a * b, a / b.

splat = _operation(lanes)(_splat)
fma = _operation(lanes)(_fma)
load = _operation(lanes)(lambda builder, array, at: array.load(at))
store = _operation(types.void)(lambda builder, array, at, value: array.store(value, at))
larger = _operation(lanes)(lambda builder, a, b: builder.select(builder.fcmp_ordered(">", b, a), b, a))
smaller = _operation(lanes)(lambda builder, a, b: builder.select(builder.fcmp_ordered("<", b, a), b, a))
for _operator, _method in (
    (operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul"), (operator.truediv, "fdiv"),
):  # fmt: skip
    infer_global(_operator)(type("_Arithmetic", (ConcreteTemplate,), {"cases": [lanes(lanes, lanes)]}))
    lower_builtin(_operator, lanes, lanes)(
        lambda context, builder, signature, args, method=_method: getattr(builder, method)(*args)
    )


@_operation(types.float32)
def across(builder, value):
    """The sum of all lanes, by halves."""
    for n in (8, 4, 2, 1):
        value = builder.fadd(*(_shuffle(builder, value, value, [*range(i, i + n)]) for i in (0, n)))
    return builder.extract_element(value, _I32(0))


# Functions; tests/training/test_kernels.py states their errors.
_F = np.float32
_TO_WHOLE = _F(3 * 2**22)  # adding it to a number below 2**22 rounds that to a whole one
_LOG2_E, _LN_2, _ONE, _TWO, _LARGE = _F(1.4426950408889634), _F(0.6931471805599453), _F(1), _F(2), _F(126)


@_operation(lanes)
def _power_of_two(builder, shifted):
    """2**k of the number k + _TO_WHOLE, for whole k in -126 .. 127: k stands in its lowest bits."""
    exponent = builder.shl(builder.bitcast(shifted, _VI), _all(23, _VI))
    return builder.bitcast(builder.add(exponent, _all(0x3F800000, _VI)), _V)  # 1.0


@_operation(lanes)
def _exponent(builder, value):
    """k of value = m * 2**k with m in 2/3 .. 4/3, for a positive normal number."""
    above = builder.sub(builder.bitcast(value, _VI), _all(0x3F2AAAAB, _VI))  # 2/3
    return builder.sitofp(builder.ashr(above, _all(23, _VI)), _V)


def _polynomial(first, *others):
    """The operation of a polynomial with these coefficients, the highest power's first, by Horner's rule."""
    return _operation(lanes)(
        lambda builder, x: functools.reduce(lambda y, c: _fma(builder, y, x, _all(c)), others, _all(first))
    )


# (2**f - 1) / f for f in -1/2 .. 1/2, by the polynomial that has its values at Chebyshev's six points.
_exp2_series = _polynomial(1.545316294e-4, 1.339086336e-3, 9.618082557e-3, 0.05550357114, 0.2402265076, 0.693147188)
_artanh_series = _polynomial(1 / 9, 1 / 7, 1 / 5, 1 / 3, 1)  # of x**2, by x


@inlined
def _exp2(x):
    """q, s with (1 + q) * s = 2**x, s a power of two; x is taken as -126 below -126 and as 126 above 126."""
    x = larger(smaller(x, splat(_LARGE)), splat(-_LARGE))
    shifted = x + splat(_TO_WHOLE)
    f = x - (shifted - splat(_TO_WHOLE))
    return _exp2_series(f) * f, _power_of_two(shifted)


@inlined
def exp(x):
    """exp(x), with x taken as -87 below -87 and as 87 above 87."""
    q, s = _exp2(x * splat(_LOG2_E))
    return fma(q, s, s)


@inlined
def tanh(x):
    """tanh(x) = (e - 1) / (e + 1) with e = exp(2x); e - 1 is formed without loss of digits."""
    q, s = _exp2(x * splat(_TWO * _LOG2_E))
    return fma(q, s, s - splat(_ONE)) / fma(q, s, s + splat(_ONE))


@inlined
def log(x):
    """log of a positive normal number, by the series of artanh: log m = 2 artanh((m - 1) / (m + 1))."""
    k = _exponent(x)
    m = x * _power_of_two(splat(_TO_WHOLE) - k)
    t = (m - splat(_ONE)) / (m + splat(_ONE))
    return fma(k, splat(_LN_2), t * _artanh_series(t * t) * splat(_TWO))


# A tile of n rows: zeros; each one number of an array from `at` on; read and written, each `step` after the one before.

zeros = _operation(_counted)(lambda builder, n: [_all(0.0)] * n)
splat_rows = _operation(_counted)(
    lambda builder, array, at, n: [_splat(builder, array.load(at, r, kind=_F32)) for r in range(n)]
)
load_rows = _operation(_counted)(lambda builder, array, at, step, n: [array.load(at, (step, r)) for r in range(n)])


@_operation(types.void)
def store_rows(builder, array, at, step, rows):
    for r, row in enumerate(rows):
        array.store(row, at, (step, r))


def _micro_kernel(read):
    """The operation rows[r] + the sum over k < n of w at w_at + k * w_step + r * w_row times x at x_at + k * x_step."""

    @_operation(lambda rows, *_: rows)
    def dot(builder, rows, w, w_at, w_step, w_row, x, x_at, x_step, n):
        sums = [cgutils.alloca_once_value(builder, row) for row in rows]
        with cgutils.for_range(builder, n if isinstance(n, ir.Value) else _I64(n)) as loop:
            right = x.load(x_at, (loop.index, x_step))
            for r, total in enumerate(sums):
                left = read(builder, w, w_at, (loop.index, w_step), (w_row, r))
                builder.store(_fma(builder, left, right, builder.load(total)), total)
        return [builder.load(total) for total in sums]

    return dot


dot = _micro_kernel(lambda builder, w, *place: _splat(builder, w.load(*place, kind=_F32)))  # a number times lanes
dot_lanes = _micro_kernel(lambda builder, w, *place: w.load(*place))  # lanes times lanes


@_operation(types.void)
def transpose(builder, source, at, step, out, out_at):
    """16 rows of 16 numbers, `step` apart, to 16 rows side by side, by exchanging ever smaller blocks."""
    rows = [source.load(at, (step, i)) for i in range(L)]
    for size in (8, 4, 2, 1):
        upper = [j if not j & size else L + j - size for j in range(L)]
        lower = [j + size if not j & size else L + j for j in range(L)]
        for i in range(L):
            if not i & size:
                a, b = rows[i], rows[i + size]
                rows[i], rows[i + size] = _shuffle(builder, a, b, upper), _shuffle(builder, a, b, lower)
    for i, row in enumerate(rows):
        out.store(row, out_at, i * L)
