import { act, cleanup, render, screen } from "@testing-library/react";
import { afterEach, describe, expect, it, vi } from "vitest";
import { Near, Rows } from "./near";

type Seen = (entries: { isIntersecting: boolean; boundingClientRect: { height: number } }[]) => void;
const observers: { seen: Seen; element: Element }[] = [];

function withScreen() {
  vi.stubGlobal("IntersectionObserver", class {
    constructor(readonly seen: Seen) {}
    observe(element: Element) {
      observers.push({ seen: this.seen, element });
    }
    disconnect() {}
  });
}
const see = (index: number, isIntersecting: boolean, height = 0) => act(() => observers[index]?.seen([{ isIntersecting, boundingClientRect: { height } }]));
const numbers = (length: number) => Array.from({ length }, (_, index) => index);
const table = (length: number) =>
  render(
    <table>
      <Rows items={numbers(length)} row={(number) => <tr key={number}><td>{`row ${number}`}</td></tr>} />
    </table>,
  );

afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
  observers.length = 0;
});

describe("a long table", () => {
  it("has the rows that are near the screen, and the height of the others", () => {
    withScreen();
    const { container } = table(1_000);
    expect(observers).toHaveLength(25);
    expect(screen.queryByText("row 0")).toBeNull();
    see(0, true);
    see(3, true);
    expect(screen.getByText("row 39")).toBeTruthy();
    expect(screen.getByText("row 120")).toBeTruthy();
    expect(screen.queryByText("row 40")).toBeNull();
    see(0, false, 1_234);
    expect(screen.queryByText("row 0")).toBeNull();
    expect(container.querySelector("td")?.style.height).toBe("1234px");
  });

  it("is there as a whole where it is short, or the browser can not say what is near", () => {
    withScreen();
    table(80);
    expect(screen.getAllByText(/^row/)).toHaveLength(80);
    cleanup();
    vi.unstubAllGlobals();
    table(1_000);
    expect(screen.getAllByText(/^row/)).toHaveLength(1_000);
  });
});

describe("a part of a page", () => {
  it("is made once it is near, and no more when it is far", () => {
    withScreen();
    render(<Near height={200}>figures</Near>);
    expect(screen.queryByText("figures")).toBeNull();
    see(0, true);
    expect(screen.getByText("figures")).toBeTruthy();
    see(0, false, 300);
    expect(screen.queryByText("figures")).toBeNull();
  });
});
