// Runs programs (program.py): every step becomes a function that writes its output's numbers, all of whose places are
// known before. Numbers are float32 between steps, as in JAX; sums are kept in float64.

const TYPES = { float32: Float32Array, int32: Int32Array, bool: Uint8Array, uint8: Uint8Array };

const count = (shape) => shape.reduce((product, size) => product * size, 1);

// How far apart the numbers along each axis are.
function stridesOf(shape) {
  const strides = shape.map(() => 1);
  for (let axis = shape.length - 2; axis >= 0; axis--) strides[axis] = strides[axis + 1] * shape[axis + 1];
  return strides;
}

// The index of every number of a shape, in order; the same array each time.
function* indices(shape) {
  const index = shape.map(() => 0);
  for (let left = count(shape); left > 0; left--) {
    yield index;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      if (++index[axis] < shape[axis]) break;
      index[axis] = 0;
    }
  }
}

// Offsets of the numbers of some axes of a tensor.
function offsets(tensor, axes) {
  const strides = stridesOf(tensor.shape), found = new Int32Array(count(axes.map((axis) => tensor.shape[axis])));
  let i = 0;
  for (const index of indices(axes.map((axis) => tensor.shape[axis]))) {
    found[i++] = axes.reduce((sum, axis, place) => sum + strides[axis] * index[place], 0);
  }
  return found;
}

const others = (tensor, axes) => tensor.shape.map((_, axis) => axis).filter((axis) => !axes.includes(axis));

// Elementwise

function roundToEven(x) {
  const below = Math.floor(x), rest = x - below;
  return rest < 0.5 || (rest === 0.5 && below % 2 === 0) ? below : below + 1;
}

const ONE = {
  neg: (x) => -x, abs: Math.abs, sign: Math.sign, floor: Math.floor, ceil: Math.ceil, sqrt: Math.sqrt, exp: Math.exp,
  rsqrt: (x) => 1 / Math.sqrt(x), expm1: Math.expm1, log: Math.log, log1p: Math.log1p, tanh: Math.tanh, sin: Math.sin,
  cos: Math.cos, logistic: (x) => 1 / (1 + Math.exp(-x)), not: (x) => Number(!x), is_finite: (x) => Number(isFinite(x)),
};
const TWO = {
  add: (a, b) => a + b, sub: (a, b) => a - b, mul: (a, b) => a * b, div: (a, b) => a / b, rem: (a, b) => a % b,
  max: (a, b) => Math.max(a, b), min: (a, b) => Math.min(a, b), pow: Math.pow, atan2: Math.atan2,
  and: (a, b) => a & b, or: (a, b) => a | b, xor: (a, b) => a ^ b,
  eq: (a, b) => Number(a === b), ne: (a, b) => Number(a !== b), lt: (a, b) => Number(a < b),
  le: (a, b) => Number(a <= b), gt: (a, b) => Number(a > b), ge: (a, b) => Number(a >= b),
};

function one(apply) {
  return ([x], [out]) => () => {
    for (let i = 0; i < out.data.length; i++) out.data[i] = apply(x.data[i]);
  };
}

// Where one of two has a single number, it belongs to every number of the other.
const each = (tensor) => (tensor.data.length === 1 ? 0 : 1);

function two(apply) {
  return ([a, b], [out]) => {
    const stepA = each(a), stepB = each(b);
    return () => {
      for (let i = 0; i < out.data.length; i++) out.data[i] = apply(a.data[i * stepA], b.data[i * stepB]);
    };
  };
}

// Movement: the place in the input of every number of the output, or -1.

function moved([x], [out], place) {
  const strides = stridesOf(x.shape), from = new Int32Array(out.data.length);
  let i = 0;
  for (const index of indices(out.shape)) {
    const at = place(index), inside = at.every((k, axis) => k >= 0 && k < x.shape[axis]);
    from[i++] = inside ? at.reduce((sum, k, axis) => sum + k * strides[axis], 0) : -1;
  }
  return from;
}

function move(place) {
  return (inputs, outputs, parameters) => {
    const [[x], [out]] = [inputs, outputs], from = moved(inputs, outputs, (index) => place(index, parameters, x));
    return () => {
      for (let i = 0; i < from.length; i++) out.data[i] = x.data[from[i]];
    };
  };
}

function pad([x, value], [out], { padding }) {
  const from = moved([x], [out], (index) => index.map((k, axis) => {
    const [low, , between] = padding[axis], at = (k - low) / (between + 1);
    return Number.isInteger(at) ? at : -1;
  }));
  return () => {
    for (let i = 0; i < from.length; i++) out.data[i] = from[i] < 0 ? value.data[0] : x.data[from[i]];
  };
}

function concatenate(inputs, [out], { dimension }) {
  const inner = count(out.shape.slice(dimension)), outer = out.data.length / inner;
  return () => {
    let start = 0;
    for (const x of inputs) {
      const width = x.data.length / outer;
      for (let k = 0; k < outer; k++) out.data.set(x.data.subarray(k * width, (k + 1) * width), k * inner + start);
      start += width;
    }
  };
}

// Sums and searches

function dotGeneral([a, b], [out], { left, right, left_batch, right_batch }) {
  const [batchA, batchB] = [offsets(a, left_batch), offsets(b, right_batch)];
  const [rows, columns] = [offsets(a, others(a, [...left, ...left_batch])), offsets(b, others(b, [...right, ...right_batch]))];
  const [alongA, alongB] = [offsets(a, left), offsets(b, right)];
  const sums = new Float64Array(columns.length);
  return () => {
    let place = 0;
    for (let batch = 0; batch < batchA.length; batch++) {
      for (const row of rows) {
        sums.fill(0);
        for (let k = 0; k < alongA.length; k++) {
          const factor = a.data[batchA[batch] + row + alongA[k]], start = batchB[batch] + alongB[k];
          if (factor !== 0) for (let n = 0; n < sums.length; n++) sums[n] += factor * b.data[start + columns[n]];
        }
        out.data.set(sums, place);
        place += sums.length;
      }
    }
  };
}

function reduce(start, combine) {
  return ([x], [out], { axes }) => {
    const kept = offsets(x, others(x, axes)), along = offsets(x, axes);
    return () => {
      kept.forEach((base, i) => {
        let found = start;
        for (const offset of along) found = combine(found, x.data[base + offset]);
        out.data[i] = found;
      });
    };
  };
}

function arg(better) {
  return ([x], [out], { axes }) => {
    const kept = offsets(x, others(x, axes)), along = offsets(x, axes);
    return () => {
      kept.forEach((base, i) => {
        let best = 0;
        for (let k = 1; k < along.length; k++) if (better(x.data[base + along[k]], x.data[base + along[best]])) best = k;
        out.data[i] = best;
      });
    };
  };
}

function topK([x], [values, places]) {
  const length = x.shape.at(-1), kept = (values ?? places).shape.at(-1);
  return () => {
    for (let row = 0; row < x.data.length / length; row++) {
      const of = x.data.subarray(row * length, (row + 1) * length);
      const best = Array.from(of.keys()).sort((a, b) => of[b] - of[a] || a - b).slice(0, kept);
      if (values) values.data.set(best.map((k) => of[k]), row * kept);
      if (places) places.data.set(best, row * kept);
    }
  };
}

// Reading at places that are known when it runs; a window that would leave the tensor is moved back into it.

function windowOf(x, sizes) {
  const strides = stridesOf(x.shape), within = [];
  for (const index of indices(sizes)) within.push(index.reduce((sum, k, axis) => sum + k * strides[axis], 0));
  return [within, (start) => start.reduce(
    (sum, k, axis) => sum + strides[axis] * Math.max(0, Math.min(k, x.shape[axis] - sizes[axis])), 0,
  )];
}

function dynamicSlice([x, ...starts], [out], { sizes }) {
  const [within, begin] = windowOf(x, sizes);
  return () => {
    const start = begin(starts.map((each) => each.data[0]));
    for (let i = 0; i < within.length; i++) out.data[i] = x.data[start + within[i]];
  };
}

function gather([x, starts], [out], { sizes, offset_dims, collapsed, start_map, batch, start_batch }) {
  const [, begin] = windowOf(x, sizes), strides = stridesOf(x.shape), width = starts.shape.at(-1);
  const windowed = x.shape.map((_, axis) => axis).filter((axis) => !collapsed.includes(axis) && !batch.includes(axis));
  const startStrides = stridesOf(starts.shape), reads = [];
  for (const index of indices(out.shape)) {
    const batched = index.filter((_, axis) => !offset_dims.includes(axis));
    const row = batched.reduce((sum, k, axis) => sum + k * startStrides[axis], 0);
    const own = offset_dims.reduce((sum, axis, place) => sum + index[axis] * strides[windowed[place]], 0);
    reads.push([row, own, start_batch.map((axis) => batched[axis])]);
  }
  return () => {
    reads.forEach(([row, own, among], i) => {
      const start = x.shape.map(() => 0);
      start_map.forEach((axis, k) => { start[axis] = starts.data[row + k]; });
      batch.forEach((axis, k) => { start[axis] = among[k]; });
      out.data[i] = x.data[begin(start) + own];
    });
  };
}

const OPERATIONS = {
  ...Object.fromEntries(Object.entries(ONE).map(([name, apply]) => [name, one(apply)])),
  ...Object.fromEntries(Object.entries(TWO).map(([name, apply]) => [name, two(apply)])),
  round: (inputs, outputs, { to_even }) => one(to_even ? roundToEven : (x) => Math.sign(x) * Math.round(Math.abs(x)))(
    inputs, outputs,
  ),
  // typed arrays cut off what an integer has not, as a conversion does
  convert_element_type: (inputs, [out]) => one(out.type === "bool" ? (x) => Number(x !== 0) : (x) => x)(inputs, [out]),
  select_n: ([which, ...cases], [out]) => () => {
    for (let i = 0; i < out.data.length; i++) out.data[i] = cases[which.data[i * each(which)]].data[i];
  },
  reshape: ([x], [out]) => () => out.data.set(x.data),
  broadcast_in_dim: move((index, { dimensions }, x) => dimensions.map((axis, k) => (x.shape[k] === 1 ? 0 : index[axis]))),
  transpose: move((index, { permutation }) => permutation.reduce((at, axis, k) => { at[axis] = index[k]; return at; }, [])),
  slice: move((index, { start, strides }) => index.map((k, axis) => start[axis] + k * strides[axis])),
  rev: move((index, { dimensions }, x) => index.map((k, axis) => (dimensions.includes(axis) ? x.shape[axis] - 1 - k : k))),
  iota: (_, [out], { dimension }) => {
    let i = 0;
    for (const index of indices(out.shape)) out.data[i++] = index[dimension];
    return () => {};
  },
  reduce_sum: reduce(0, (a, b) => a + b), reduce_max: reduce(-Infinity, Math.max), reduce_min: reduce(Infinity, Math.min),
  reduce_and: reduce(1, (a, b) => a & b), reduce_or: reduce(0, (a, b) => a | b),
  argmax: arg((a, b) => a > b), argmin: arg((a, b) => a < b), top_k: topK,
  pad, concatenate, gather, dot_general: dotGeneral, dynamic_slice: dynamicSlice,
};

class Program {
  // Of a description and the arrays of its constants, by their numbers.
  constructor({ tensors, constants, steps, inputs, outputs }, stored) {
    const written = new Set(Object.keys(constants).map(Number));
    this.tensors = tensors.map(([shape, type], number) => ({
      shape, type, data: written.has(number) ? stored[constants[number]] : new TYPES[type](count(shape)),
    }));
    const of = (numbers) => numbers.map((number) => this.tensors[number]);
    this.steps = steps.map(([name, ins, outs, parameters]) => OPERATIONS[name](of(ins), of(outs), parameters));
    [this.inputs, this.outputs] = [inputs, outputs];
  }

  // Named arrays of numbers to named arrays.
  run(given) {
    for (const [name, number] of Object.entries(this.inputs)) this.tensors[number].data.set(given[name]);
    for (const step of this.steps) step();
    return Object.fromEntries(Object.entries(this.outputs).map(([name, number]) => [name, this.tensors[number].data.slice()]));
  }
}
