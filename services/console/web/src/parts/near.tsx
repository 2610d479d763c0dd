/** Long pages by the piece: what is far from the screen is an empty place of the same height, and costs nothing. */
import { type ReactNode, useEffect, useRef, useState } from "react";

/** How far from the screen a piece begins to be there. */
const MARGIN = "400px 0px";
/** Rows in a piece. */
const PIECE = 40;
/** The height of a row that was never seen. Unit: pixels. */
const ROW = 46;

/** Whether an element is near the screen, and how high it was when it last was; where a browser can not say, it is. */
function useNear<E extends HTMLElement>(guess: number) {
  const element = useRef<E>(null);
  const height = useRef(guess);
  const [near, setNear] = useState(typeof IntersectionObserver === "undefined");
  useEffect(() => {
    if (typeof IntersectionObserver === "undefined" || !element.current) return;
    const observer = new IntersectionObserver(
      (entries) => {
        const entry = entries.at(-1);
        if (!entry) return;
        if (!entry.isIntersecting && entry.boundingClientRect.height > 0) height.current = entry.boundingClientRect.height;
        setNear(entry.isIntersecting);
      },
      { rootMargin: MARGIN },
    );
    observer.observe(element.current);
    return () => observer.disconnect();
  }, []);
  return { element, near, height: height.current };
}

/** The rows of a table; a short one is there as a whole. */
export function Rows<T>({ items, row }: { items: readonly T[]; row: (item: T) => ReactNode }) {
  if (items.length <= 2 * PIECE) return <tbody>{items.map(row)}</tbody>;
  const pieces = Array.from({ length: Math.ceil(items.length / PIECE) }, (_, index) => items.slice(index * PIECE, (index + 1) * PIECE));
  return pieces.map((piece, index) => <Piece key={index} items={piece} row={row} />);
}

function Piece<T>({ items, row }: { items: readonly T[]; row: (item: T) => ReactNode }) {
  const { element, near, height } = useNear<HTMLTableSectionElement>(items.length * ROW);
  return (
    <tbody ref={element}>
      {near ? (
        items.map(row)
      ) : (
        <tr aria-hidden="true">
          <td colSpan={20} style={{ height }} />
        </tr>
      )}
    </tbody>
  );
}

/** A part of a page that is there while it is near the screen. */
export function Near({ height: guess, children }: { height: number; children: ReactNode }) {
  const { element, near, height } = useNear<HTMLDivElement>(guess);
  return (
    <div ref={element} style={near ? undefined : { height }}>
      {near && children}
    </div>
  );
}
