// The drift watch: the latest images compared with the validation split.

import { element, find, percent } from "./dom.js";

const SHOWN = 10; // classes; the others are in a list that opens

function statistic(title, value, expected, form = percent) {
  return element("div", { className: "statistic" },
    element("dt", { textContent: title }),
    element("dd", {},
      element("strong", { textContent: value === null ? "–" : form(value) }),
      element("span", { textContent: `expected ${form(expected)}` }),
    ),
  );
}

// The longest bar is that of the largest share.
function table(classes, largest) {
  const rows = classes.map(({ label, share, expected }) =>
    element("tr", {},
      element("th", { scope: "row", textContent: label, title: label }),
      element("td", { className: "pair", style: { "--share": (share ?? 0) / largest, "--expected": expected / largest }, attributes: { "aria-hidden": "true" } },
        element("span", { className: "is" }), element("span", { className: "should" })),
      element("td", { className: "number", textContent: share === null ? "–" : percent(share) }),
      element("td", { className: "number", textContent: percent(expected) }),
    ),
  );
  const head = element("tr", {},
    element("th", { scope: "col", textContent: "Class" }),
    element("td", {}),
    element("th", { scope: "col", className: "number", textContent: "Share" }),
    element("th", { scope: "col", className: "number", textContent: "Expected" }),
  );
  return element("table", { className: "shares" }, element("thead", {}, head), element("tbody", {}, ...rows));
}

let opened = false;

export function show(found) {
  const furthest = [...found.classes].sort(
    (one, other) => Math.abs((other.share ?? 0) - other.expected) - Math.abs((one.share ?? 0) - one.expected),
  );
  const largest = Math.max(...found.classes.flatMap(({ share, expected }) => [share ?? 0, expected])) || 1;
  const many = found.classes.length > SHOWN;
  const state = found.warning
    ? element("p", { className: "warning", textContent: found.warning })
    : element("p", { className: "small", textContent:
        found.images ? `The latest ${found.images} of at most ${found.window} images.` : "No images yet." });
  const parts = [
    state,
    element("dl", { className: "statistics" },
      statistic("Unlike the training images", found.unlike_share, found.expected_unlike_share),
      statistic("Confidence", found.confidence, found.expected_confidence),
      ...(found.expected_set_size === null ? []
        : [statistic("Labels in a prediction set", found.set_size, found.expected_set_size, (size) => size.toFixed(2))]),
    ),
    table(many ? furthest.slice(0, SHOWN) : found.classes, largest),
  ];
  if (many) {
    const rest = found.classes.length - SHOWN;
    const more = element("details", { className: "more", open: opened });
    more.addEventListener("toggle", () => (opened = more.open));
    const others = { className: "rest", tabIndex: 0, attributes: { role: "region", "aria-label": "The other classes" } };
    more.append(element("summary", { textContent: `The other ${rest}` }), element("div", others, table(furthest.slice(SHOWN), largest)));
    parts.push(more);
  }
  find("drift").replaceChildren(...parts);
}
