/** Small charts over time in SVG: stacked bars or lines, whose values show under the pointer. */

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";

interface Series {
  readonly name: string;
  /** A custom property's name, such as --stage-1. */
  readonly color: string;
  /** By place in time; null where nothing is known. */
  readonly values: readonly (number | null)[];
}
interface ChartProps {
  readonly title: string;
  readonly kind: "bars" | "lines";
  readonly series: readonly Series[];
  /** What to call each place in time. */
  readonly labels: readonly string[];
  readonly unit: string;
  readonly empty: string;
}

const HEIGHT = 168;
const EDGE = { left: 40, right: 12, top: 12, bottom: 24 } as const;

export function Chart({ title, kind, series, labels, unit, empty }: ChartProps) {
  const frame = useRef<HTMLDivElement>(null);
  const width = useSignal(0);
  const pointed = useSignal<number | null>(null);
  useEffect(() => {
    if (!frame.current) return;
    const observer = new ResizeObserver(([entry]) => (width.value = Math.floor(entry?.contentRect.width ?? 0)));
    observer.observe(frame.current);
    return () => observer.disconnect();
  }, []);
  const shown = series.filter(({ values }) => values.some((value) => value !== null));
  const at = pointed.value;
  return (
    <figure class="chart">
      <figcaption>
        <h3>{title}</h3>
        <span class="legend">
          {shown.map(({ name, color, values }) => (
            <span key={name}>
              <i style={{ background: `var(${color})` }} />
              {name}
              {at !== null && <b>{said(values[at] ?? null, unit)}</b>}
            </span>
          ))}
        </span>
      </figcaption>
      <div ref={frame} class="plot">
        {labels.length === 0 || shown.length === 0 ? (
          <p class="empty">{empty}</p>
        ) : (
          width.value > 0 && (
            <Plot {...{ title, kind, labels, unit }} series={shown} width={width.value} at={at} point={pointed} />
          )
        )}
      </div>
    </figure>
  );
}

interface PlotProps extends Omit<ChartProps, "empty"> {
  readonly width: number;
  readonly at: number | null;
  readonly point: { value: number | null };
}

function Plot({ title, kind, series, labels, unit, width, at, point }: PlotProps) {
  const inner = { width: width - EDGE.left - EDGE.right, height: HEIGHT - EDGE.top - EDGE.bottom };
  const sums = labels.map((_, place) => series.reduce((sum, { values }) => sum + (values[place] ?? 0), 0));
  const most = Math.max(...(kind === "bars" ? sums : series.flatMap(({ values }) => values.map((v) => v ?? 0))), 0);
  const ticks = ticksUpTo(most, kind === "bars");
  const top = ticks.at(-1) ?? 1;
  const slot = inner.width / labels.length;
  const x = (place: number) => EDGE.left + (place + 0.5) * slot;
  const y = (value: number) => EDGE.top + inner.height * (1 - value / top);
  const last = labels.length - 1;
  const marked = [...new Set([0, Math.floor(last / 2), last])].filter(
    (place) => place === 0 || slot * last > 160 || place === last,
  );
  return (
    <svg
      width={width}
      height={HEIGHT}
      role="img"
      aria-label={`${title}: ${series.map(({ name, values }) => `${name} ${said(latest(values), unit)}`).join(", ")}`}
      onPointerMove={(event) => {
        const place = Math.floor((event.offsetX - EDGE.left) / slot);
        point.value = place >= 0 && place < labels.length ? place : null;
      }}
      onPointerLeave={() => (point.value = null)}
    >
      {ticks.map((tick) => (
        <g key={tick}>
          <line class="grid" x1={EDGE.left} x2={width - EDGE.right} y1={y(tick)} y2={y(tick)} />
          <text x={EDGE.left - 8} y={y(tick) + 4} text-anchor="end">
            {tick}
          </text>
        </g>
      ))}
      {marked.map((place) => (
        <text
          key={place}
          x={last === 0 ? x(0) : place === 0 ? EDGE.left : place === last ? width - EDGE.right : x(place)}
          y={HEIGHT - 6}
          text-anchor={last === 0 || (place > 0 && place < last) ? "middle" : place === 0 ? "start" : "end"}
        >
          {labels[place]}
        </text>
      ))}
      {at !== null && <rect class="pointed" x={x(at) - slot / 2} width={slot} y={EDGE.top} height={inner.height} />}
      {kind === "bars" ? (
        <Bars series={series} count={labels.length} x={x} y={y} slot={slot} />
      ) : (
        series.map((one) => <Line key={one.name} series={one} x={x} y={y} />)
      )}
      {at !== null && (
        <text
          class="when"
          x={Math.min(Math.max(x(at), EDGE.left + 24), width - 40)}
          y={EDGE.top + 8}
          text-anchor="middle"
        >
          {labels[at]}
        </text>
      )}
    </svg>
  );
}

interface Scales {
  readonly x: (place: number) => number;
  readonly y: (value: number) => number;
}

function Bars({ series, count, x, y, slot }: Scales & { series: readonly Series[]; count: number; slot: number }) {
  const wide = Math.max(1, Math.min(slot - 2, 28));
  return (
    <>
      {Array.from({ length: count }, (_, place) => {
        let base = 0;
        return series.map(({ name, color, values }) => {
          const value = values[place] ?? 0;
          if (value === 0) return null;
          const [from, to] = [base, base + value];
          base = to;
          const height = Math.max(1, y(from) - y(to) - (from > 0 ? 1 : 0));
          return (
            <rect
              key={name + place}
              x={x(place) - wide / 2}
              width={wide}
              y={y(to)}
              height={height}
              rx={Math.min(2, wide / 4)}
              fill={`var(${color})`}
            />
          );
        });
      })}
    </>
  );
}

/** A line over the places that have a value, and a dot at each. */
function Line({ series: { color, values }, x, y }: Scales & { series: Series }) {
  const points = values.flatMap((value, place) => (value === null ? [] : [[x(place), y(value)] as const]));
  return (
    <>
      <polyline points={points.map((point) => point.join()).join(" ")} stroke={`var(${color})`} />
      {points.map(([px, py]) => (
        <circle key={px} cx={px} cy={py} r={points.length > 30 ? 1.5 : 3} fill={`var(${color})`} />
      ))}
    </>
  );
}

const latest = (values: readonly (number | null)[]): number | null =>
  values.findLast((value) => value !== null) ?? null;
const said = (value: number | null, unit: string): string =>
  value === null ? "–" : `${Number.isInteger(value) ? value : value.toFixed(1)}${unit && ` ${unit}`}`;

/** Round numbers from 0 up to the first that is not below `most`, at most six; whole ones for counts. */
export function ticksUpTo(most: number, areCounts = false): number[] {
  if (!(most > 0)) return [0, 1];
  const power = 10 ** Math.floor(Math.log10(most / 3));
  const fits = (size: number) => most / size <= 4 && (!areCounts || Number.isInteger(size));
  const step = [1, 2, 2.5, 5, 10, 20].map((factor) => factor * power).find(fits) ?? 10 * power;
  const count = Math.ceil(most / step - 1e-9);
  return Array.from({ length: count + 1 }, (_, index) => Number((index * step).toPrecision(12)));
}
