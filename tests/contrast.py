"""The contrast of a page's texts, measured in the browser."""

# The lowest contrast of a text with what lies behind it, and the text. Text that a person cannot use has none.
LOWEST_CONTRAST = """
() => {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const over = (colors) => {
    pen.clearRect(0, 0, 1, 1);
    for (const color of colors) {
      pen.fillStyle = color;
      pen.fillRect(0, 0, 1, 1);
    }
    return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let lowest = [21, ""];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    const text = texts.currentNode.data.trim();
    if (!text || element.closest("noscript, [hidden], button:disabled") || !element.checkVisibility()) continue;
    const behind = [];
    for (let each = element; each; each = each.parentElement) behind.unshift(getComputedStyle(each).backgroundColor);
    if (element.id === "draw-hint") behind.push("white");
    const ground = luminance(over(behind));
    const letters = luminance(over([...behind, getComputedStyle(element).color]));
    const contrast = (Math.max(ground, letters) + 0.05) / (Math.min(ground, letters) + 0.05);
    if (contrast < lowest[0]) lowest = [contrast, text];
  }
  return lowest;
}
"""
