/** Colours equally light and equally strong to the eye, by OKLCH (B. Ottosson, 2020): the package's own palette. */

export type RGB = readonly [number, number, number];

const GOLDEN_ANGLE = 180 * (3 - Math.sqrt(5));
const FIRST_HUE = 258;
const HALVINGS = 12;

/** The colour of a place in the palette: hues a golden angle apart, so that any first few are far apart. */
export function paletteColor(index: number, lightness = 0.7, chroma = 0.17): RGB {
  return oklchToRgb(lightness, chroma, FIRST_HUE + GOLDEN_ANGLE * index);
}

/** Convert to sRGB; what a screen cannot show loses chroma until it can, and keeps lightness and hue. */
function oklchToRgb(lightness: number, chroma: number, hue: number): RGB {
  let low = 0;
  let high = chroma;
  if (isShown(linear(lightness, chroma, hue))) low = chroma;
  else {
    for (let step = 0; step < HALVINGS; step++) {
      const middle = (low + high) / 2;
      if (isShown(linear(lightness, middle, hue))) low = middle;
      else high = middle;
    }
  }
  const [r, g, b] = linear(lightness, low, hue).map((value) => {
    const clipped = Math.min(Math.max(value, 0), 1);
    return Math.round(255 * (clipped <= 0.0031308 ? 12.92 * clipped : 1.055 * clipped ** (1 / 2.4) - 0.055));
  }) as [number, number, number];
  return [r, g, b];
}

function linear(lightness: number, chroma: number, hue: number): [number, number, number] {
  const angle = (hue * Math.PI) / 180;
  const [a, b] = [chroma * Math.cos(angle), chroma * Math.sin(angle)];
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ];
}

const isShown = (rgb: readonly number[]) => rgb.every((value) => value >= -1e-4 && value <= 1 + 1e-4);

export const toHex = (rgb: RGB): string => `#${rgb.map((value) => value.toString(16).padStart(2, "0")).join("")}`;

/** Read #rrggbb; anything else is grey. */
export function fromHex(text: string): RGB {
  const match = /^#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})$/i.exec(text);
  if (!match) return [128, 128, 128];
  return [Number.parseInt(match[1]!, 16), Number.parseInt(match[2]!, 16), Number.parseInt(match[3]!, 16)];
}
