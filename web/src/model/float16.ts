/** IEEE half precision to single. */

/** Return the values of float16 bits. */
export function fromFloat16(bits: Uint16Array): Float32Array {
  decoded ??= makeTable();
  const table = decoded;
  const values = new Float32Array(bits.length);
  for (let index = 0; index < bits.length; index++) values[index] = table[bits[index]!]!;
  return values;
}

let decoded: Float32Array | undefined;

function makeTable(): Float32Array {
  return Float32Array.from({ length: 65536 }, (_, bits) => {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
    return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  });
}

/** Return the float16 bits next to each value, ties to even. */
export function toFloat16(values: Float32Array): Uint16Array {
  const result = new Uint16Array(values.length);
  const view = new DataView(new ArrayBuffer(4));
  for (let index = 0; index < values.length; index++) {
    view.setFloat32(0, values[index]!);
    const bits = view.getUint32(0);
    const sign = (bits >>> 16) & 0x8000;
    const exponent = ((bits >>> 23) & 255) - 112;
    if (exponent >= 31) result[index] = sign | 0x7c00;
    else if (exponent <= 0) result[index] = sign | Math.round(Math.abs(values[index]!) * 2 ** 24);
    else {
      const low = bits & 0x1fff;
      const half = (exponent << 10) | ((bits & 0x7fffff) >>> 13);
      const up = low > 0x1000 || (low === 0x1000 && half & 1) ? 1 : 0;
      result[index] = sign | (half + up);
    }
  }
  return result;
}
