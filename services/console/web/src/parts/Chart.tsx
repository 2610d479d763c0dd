import { useEffect, useReducer, useRef } from "react";
import UPlot from "uplot";

interface Line {
  label: string;
  /** One of the colours of the style sheet, such as `--busy`. */
  colour: string;
  values: (number | null)[];
}

/** Lines over time, with a window in it where a fault was on. Times are seconds since 1970. */
export function Chart({
  title,
  times,
  lines,
  format,
  fault,
}: {
  title: string;
  times: number[];
  lines: Line[];
  format: (value: number) => string;
  fault?: [number, number] | undefined;
}) {
  const place = useRef<HTMLDivElement>(null);
  const scheme = useScheme();
  useEffect(() => {
    const element = place.current;
    if (!element) return;
    const style = getComputedStyle(document.documentElement);
    const colour = (name: string) => style.getPropertyValue(name).trim();
    const axis = { stroke: colour("--faint"), grid: { stroke: colour("--line"), width: 1 }, font: "11px system-ui" };
    const plot = new UPlot(
      {
        width: element.clientWidth,
        height: 150,
        cursor: { y: false },
        // From nothing on: a quiet line must not look like a wild one.
        scales: { y: { range: (_, __, most) => [0, (most ?? 0) * 1.1 || 1] } },
        legend: { live: false },
        axes: [{ ...axis, space: 70 }, { ...axis, size: 60, values: (_, ticks) => ticks.map(format) }],
        series: [
          {},
          ...lines.map((line) => ({
            label: line.label,
            stroke: colour(line.colour),
            width: 1.5,
            points: { show: false },
            value: (_: UPlot, value: number | null) => (value === null ? "–" : format(value)),
          })),
        ],
        hooks: {
          drawClear: [
            (plot: UPlot) => {
              if (!fault) return;
              const [from, to] = fault.map((time) => plot.valToPos(time, "x", true)) as [number, number];
              const { left, top, width, height } = plot.bbox;
              const begin = Math.max(left, from);
              plot.ctx.fillStyle = colour("--fault");
              plot.ctx.fillRect(begin, top, Math.max(0, Math.min(left + width, to) - begin), height);
            },
          ],
        },
      },
      [times, ...lines.map((line) => line.values)],
      element,
    );
    const resized = new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height: 150 }));
    resized.observe(element);
    return () => {
      resized.disconnect();
      plot.destroy();
    };
    // The colours are those of the style sheet at the moment of drawing.
  }, [times, lines, format, fault, scheme]);
  const last = lines.map((line) => {
    const value = line.values.at(-1);
    return `${line.label} ${value === null || value === undefined ? "unknown" : format(value)}`;
  });
  return (
    <figure className="chart">
      <figcaption>{title}</figcaption>
      <div ref={place} role="img" aria-label={`${title}, at the end: ${last.join(", ")}`} />
    </figure>
  );
}

/** Another number after each change of the colours: by the system, or by the button. */
function useScheme(): number {
  const [scheme, change] = useReducer((scheme: number) => scheme + 1, 0);
  useEffect(() => {
    const system = matchMedia("(prefers-color-scheme: dark)");
    const button = new MutationObserver(change);
    system.addEventListener("change", change);
    button.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    return () => {
      system.removeEventListener("change", change);
      button.disconnect();
    };
  }, []);
  return scheme;
}
