// Words of conditions such as MinimumReplicasUnavailable, which nobody reads when they are broken anywhere.

/** Those on the page that stand on more than one line; with `apart` only those of which a part does, as between parts a narrow screen may break. */
export const broken = (page, apart) =>
  page.evaluate((apart) => {
    const isWord = (element) => /^([A-Z][a-z0-9]+){2,}$/.test(element.textContent.trim()) && [...element.children].every((child) => child.tagName === "WBR");
    const isBroken = (node) => {
      const range = document.createRange();
      range.selectNodeContents(node);
      return new Set([...range.getClientRects()].map((line) => Math.round(line.top))).size > 1;
    };
    const words = [...document.querySelectorAll("main *")].filter((element) => element.checkVisibility() && isWord(element));
    return words.filter((word) => (apart ? [...word.childNodes].some(isBroken) : isBroken(word))).map((word) => word.textContent.trim());
  }, apart);
