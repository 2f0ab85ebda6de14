// Paper and pen: strokes by mouse, touch or pen, dark on white.

const CANVAS = 560; // pixels; enough for any image that a drawing is scaled down to
// Share of the canvas. The server makes the strokes as wide as those of the training images; a thicker pen would close
// the loops of a small drawing.
const PEN = 0.06;
const PAUSE = 120; // ms after a stroke

export class Paper {
  #strokes = [];
  #timer;

  // `changed` is called when there is something to ask about, or with null when the paper is empty again.
  constructor(canvas, changed) {
    this.canvas = canvas;
    this.changed = changed;
    canvas.width = canvas.height = CANVAS;
    this.pen = canvas.getContext("2d");
    this.#redraw();
    canvas.addEventListener("pointerdown", (event) => this.#begin(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => this.#end());
  }

  get isEmpty() {
    return this.#strokes.length === 0;
  }

  undo() {
    this.#strokes.pop();
    this.#redraw();
    this.#settle();
  }

  clear() {
    this.#strokes = [];
    this.#redraw();
    this.#settle();
  }

  #begin(event) {
    if (event.button !== 0 || !event.isPrimary) return;
    event.preventDefault();
    clearTimeout(this.#timer);
    this.canvas.setPointerCapture(event.pointerId);
    this.drawing = [];
    this.#strokes.push(this.drawing);
    this.#add(event);
  }

  #move(event) {
    if (!this.drawing || !event.isPrimary) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const each of events.length ? events : [event]) this.#add(each);
  }

  #end() {
    if (!this.drawing) return;
    this.drawing = null;
    this.#redraw(); // as one line, not piece by piece: the same drawing is the same picture
    this.#settle();
  }

  #settle() {
    clearTimeout(this.#timer);
    if (this.isEmpty) this.changed(null);
    else this.#timer = setTimeout(() => this.canvas.toBlob((file) => this.changed(file), "image/png"), PAUSE);
  }

  #add(event) {
    const box = this.canvas.getBoundingClientRect();
    const scale = CANVAS / box.width;
    this.drawing.push([(event.clientX - box.left) * scale, (event.clientY - box.top) * scale]);
    this.#draw(this.drawing.slice(-2));
  }

  #redraw() {
    this.pen.fillStyle = "white";
    this.pen.fillRect(0, 0, CANVAS, CANVAS);
    for (const stroke of this.#strokes) this.#draw(stroke);
  }

  #draw(points) {
    this.pen.lineWidth = PEN * CANVAS;
    this.pen.lineCap = this.pen.lineJoin = "round";
    this.pen.strokeStyle = "black";
    this.pen.beginPath();
    this.pen.moveTo(...points[0]);
    for (const point of points) this.pen.lineTo(...point); // a single point makes a dot
    this.pen.stroke();
  }
}
