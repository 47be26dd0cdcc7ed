"use strict";
/* Sorting and filtering of tables, values under the pointer, zoom, choice between settings.
   The page is whole without any of it. */
(() => {
  const make = (tag, attributes = {}, text = "") => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.textContent = text;
    return made;
  };
  const draw = (tag, attributes = {}) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  };

  /* --- tables --- */

  const sortValue = (cell) => {
    const text = cell.dataset.sort ?? cell.textContent.trim();
    if (text === "") return null;
    const number = Number(text);
    return Number.isNaN(number) ? text.toLowerCase() : number;
  };

  const compare = (a, b, sign) => {
    if (a === null || b === null) return (a === null) - (b === null);  // nothing comes last
    if (typeof a !== typeof b) return (typeof a === "string") - (typeof b === "string");
    return sign * (a < b ? -1 : a > b ? 1 : 0);
  };

  const sortBy = (table, column, header) => {
    const old = header.getAttribute("aria-sort");
    const first = header.classList.contains("number") ? "descending" : "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = old === first ? other : first;
    for (const th of header.parentNode.children) th.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", order);
    const body = table.tBodies[0];
    const sign = order === "ascending" ? 1 : -1;
    [...body.rows]
      .map((row) => [sortValue(row.cells[column]), row])
      .sort((a, b) => compare(a[0], b[0], sign))
      .forEach(([, row]) => body.append(row));
  };

  const prepareTable = (box) => {
    const table = box.querySelector("table");
    const rows = () => [...table.tBodies[0].rows];
    const top = Number(box.dataset.top);
    const count = rows().length;
    let all = count <= top;
    const input = make("input", {type: "search", placeholder: "part of a row"});
    const said = make("span", {role: "status"});
    const more = make("button", {type: "button"}, `show all ${count}`);

    const show = () => {
      const asked = input.value.trim().toLowerCase();
      let matches = 0;
      for (const row of rows()) {
        const fits = asked === "" || row.textContent.toLowerCase().includes(asked);
        matches += fits;
        row.classList.toggle("hidden", !fits || (!all && asked === "" && matches > top));
      }
      said.textContent = asked === ""
        ? (all ? "" : `${top} of ${count} shown`) : `${matches} of ${count} match`;
      more.textContent = all ? `show the first ${top}` : `show all ${count}`;
    };

    const headers = box.classList.contains("ranked") ? [] : [...table.tHead.rows[0].cells];
    for (const [column, header] of headers.entries()) {
      const button = make("button", {type: "button"}, header.textContent);
      button.addEventListener("click", () => { sortBy(table, column, header); show(); });
      header.replaceChildren(button);
    }
    if (box.dataset.search) {
      const tools = make("div", {class: "tools"});
      const label = make("label", {}, `Find a ${box.dataset.search}: `);
      label.append(input);
      tools.append(label);
      if (count > top) tools.append(more);
      tools.append(said);
      box.prepend(tools);
      input.addEventListener("input", show);
      more.addEventListener("click", () => { all = !all; show(); });
    } else {
      all = true;
    }
    show();
  };

  /* --- code: a button that copies --- */

  const prepareCode = (box) => {
    if (!navigator.clipboard) return;
    const button = make("button", {type: "button"}, "copy");
    button.addEventListener("click", () => {
      navigator.clipboard.writeText(box.querySelector("code").textContent)
        .then(() => { button.textContent = "copied"; }, () => { button.textContent = "select it"; });
    });
    box.append(button);
  };

  /* --- time series: all pictures of one run share what part of it is shown --- */

  const groups = new Map();  // name of a run -> {plates, begin, end, first, last}

  const timeText = (seconds, data, digits = 3) => {
    const span = data.ends[1] - data.ends[0];
    const [size, name] = data.units.find((u) => span <= 120 * u[0]) ?? data.units.at(-1);
    return `${Number((seconds / size).toPrecision(digits + 2))} ${name}`;
  };

  class Drawing {
    constructor(box, data, boxes) {
      Object.assign(this, {box, data, boxes, svg: box.querySelector("svg")});
      this.inner = boxes.map((place, n) => this.wrap(n));
      this.numbers = [...this.svg.querySelectorAll("[data-part=axes_1] text")]
        .filter((text) => (text.getAttribute("style") ?? "").includes("--alarm"));
      this.x = this.numbers.map((text) => Number(text.getAttribute("x")));
      this.cursors = boxes.map(([left, top, width, height]) => {
        const line = draw("line", {class: "cursor", y1: top, y2: top + height, visibility: "hidden"});
        this.svg.append(line);
        return line;
      });
    }

    /* Everything that is clipped to the axes goes into one group that can be stretched. */
    wrap(n) {
      const axes = this.svg.querySelector(`[data-part=axes_${n + 1}]`);
      const parts = [...axes.children].filter((part) => !part.dataset.part
        && (part.hasAttribute("clip-path") || part.querySelector("[clip-path]")));
      if (parts.length === 0) return null;
      const clipped = parts[0].hasAttribute("clip-path") ? parts[0] : parts[0].querySelector("[clip-path]");
      const outer = draw("g", {"clip-path": clipped.getAttribute("clip-path")});
      const inner = draw("g", {class: "zoomed"});
      axes.insertBefore(outer, parts[0]);
      outer.append(inner);
      for (const part of parts) {
        inner.append(part);
        for (const each of [part, ...part.querySelectorAll("[clip-path]")]) each.removeAttribute("clip-path");
      }
      return inner;
    }

    zoom(begin, end) {
      const [first, last] = this.data.ends;
      const scale = (last - first) / (end - begin);
      this.boxes.forEach(([left, , width], n) => {
        const shift = left - scale * (left + width * (begin - first) / (last - first));
        this.inner[n]?.setAttribute("transform", `translate(${shift} 0) scale(${scale} 1)`);
      });
      const [left, , width] = this.boxes[0];
      this.numbers.forEach((text, n) => {
        const x = left + scale * (this.x[n] - left - width * (begin - first) / (last - first));
        text.setAttribute("x", x);
        text.style.visibility = x < left - 1 || x > left + width + 1 ? "hidden" : "visible";
        text.setAttribute("transform", "");
      });
      this.ticks(begin, end, scale > 1.0001);
    }

    ticks(begin, end, zoomed) {
      const number = 2 * this.boxes.length - 1;
      const own = this.svg.querySelector(`[data-part=axis_${number}]`);
      this.svg.querySelector(".ticks")?.remove();
      for (let n = 1; n <= number; n += 2) {
        for (const tick of this.svg.querySelectorAll(`[data-part=axis_${n}] > g`)) {
          tick.style.display = zoomed && tick.querySelector("use") ? "none" : "";
        }
      }
      if (!zoomed || !own) return;
      const [left, top, width, height] = this.boxes.at(-1);
      const many = width > 500 ? 10 : 5;
      const step = this.data.steps.find((s) => end - begin <= many * s) ?? (end - begin) / many;
      const span = this.data.ends[1] - this.data.ends[0];
      const [size] = this.data.units.find((u) => span <= 120 * u[0]) ?? this.data.units.at(-1);
      const made = draw("g", {class: "ticks"});
      for (let t = Math.ceil(begin / step) * step; t <= end; t += step) {
        const x = left + width * (t - begin) / (end - begin);
        made.append(draw("line", {x1: x, x2: x, y1: top + height, y2: top + height + 3.5, stroke: "var(--quiet)"}));
        const text = draw("text", {x, y: top + height + 15, "text-anchor": "middle", "font-size": "10.5", fill: "var(--ink)"});
        text.textContent = String(Number((t / size).toFixed(3)));
        made.append(text);
      }
      this.svg.append(made);
    }

    /* Share of the axes' width at a pointer, or null outside. */
    share(event) {
      const area = this.svg.getBoundingClientRect();
      const scale = this.svg.viewBox.baseVal.width / area.width;
      const x = (event.clientX - area.left) * scale;
      const [left, , width] = this.boxes[0];
      return x < left - 2 || x > left + width + 2 ? null : Math.min(Math.max((x - left) / width, 0), 1);
    }

    point(share) {
      const [left, , width] = this.boxes[0];
      for (const line of this.cursors) {
        line.setAttribute("visibility", share === null ? "hidden" : "visible");
        if (share !== null) {
          line.setAttribute("x1", left + share * width);
          line.setAttribute("x2", left + share * width);
        }
      }
    }

    choose(from, to) {
      this.svg.querySelector(".choice")?.remove();
      if (from === null) return;
      const [left, top, width] = this.boxes[0];
      const [, lowest, , height] = this.boxes.at(-1);
      this.svg.append(draw("rect", {
        class: "choice", x: left + width * Math.min(from, to), y: top,
        width: width * Math.abs(to - from), height: lowest + height - top,
      }));
    }
  }

  const nearest = (times, t) => {
    let low = 0, high = times.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (times[middle] <= t) low = middle; else high = middle;
    }
    return t - times[low] <= times[high] - t ? low : high;
  };

  class Plate {
    constructor(figure, group) {
      this.figure = figure;
      this.group = group;
      this.data = JSON.parse(figure.querySelector("script.values").textContent);
      this.drawings = [...figure.querySelectorAll(".drawing")]
        .map((box, n) => new Drawing(box, this.data, this.data.boxes[n]));
      this.readout = make("div", {class: "readout hidden"});
      figure.append(this.readout);
      for (const drawing of this.drawings) this.listen(drawing);
    }

    shown() {
      return this.drawings.find((drawing) => drawing.box.offsetParent !== null) ?? this.drawings[0];
    }

    listen(drawing) {
      let from = null;
      drawing.svg.addEventListener("pointermove", (event) => {
        const share = drawing.share(event);
        if (share === null) { this.leave(); return; }
        this.group.leave();
        this.read(share, drawing);
        if (from !== null) drawing.choose(from, share);
      });
      drawing.svg.addEventListener("pointerleave", () => { if (from === null) this.leave(); });
      drawing.svg.addEventListener("pointerdown", (event) => {
        if (event.pointerType === "touch" || event.button !== 0) return;
        from = drawing.share(event);
        if (from !== null) drawing.svg.setPointerCapture(event.pointerId);
      });
      drawing.svg.addEventListener("pointerup", (event) => {
        const to = drawing.share(event);
        drawing.choose(null);
        if (from !== null && to !== null && Math.abs(to - from) > 0.01) {
          const {begin, end} = this.group;
          const at = (share) => begin + share * (end - begin);
          this.group.set(at(Math.min(from, to)), at(Math.max(from, to)));
        }
        from = null;
      });
      drawing.svg.addEventListener("dblclick", () => this.group.set(...this.data.ends));
    }

    leave() {
      this.group.leave();
    }

    /* Show the values at a share of the axes' width; returns them as words. */
    read(share, drawing) {
      const {begin, end} = this.group;
      const t = begin + share * (end - begin);
      const index = nearest(this.data.t, t);
      this.group.point(share);
      const title = make("b", {}, timeText(this.data.t[index], this.data));
      const table = make("table");
      const spoken = [];
      for (const panel of this.data.panels) {
        for (const row of panel.rows) {
          const value = row.values[index];
          if (value === null) continue;
          const line = table.insertRow();
          line.insertCell().textContent = row.label;
          line.insertCell().textContent = `${value.toLocaleString("en")} ${panel.unit}`;
          spoken.push(`${row.label} ${value} ${panel.unit}`);
        }
      }
      this.readout.replaceChildren(title, table);
      this.readout.classList.remove("hidden");
      this.place(share, drawing);
      return `${title.textContent}: ${spoken.join(", ")}`;
    }

    /* Beside the pointer, on the side with more room, never beyond the picture. */
    place(share, drawing) {
      const [left, top, width] = drawing.boxes[0];
      const area = drawing.svg.getBoundingClientRect();
      const own = this.figure.getBoundingClientRect();
      const scale = area.width / drawing.svg.viewBox.baseVal.width;
      const x = area.left - own.left + (left + share * width) * scale;
      const wide = this.readout.offsetWidth;
      const at = share < 0.5 ? x + 12 : x - wide - 12;
      this.readout.style.left = `${Math.max(0, Math.min(at, own.width - wide))}px`;
      this.readout.style.top = `${area.top - own.top + top * scale}px`;
    }
  }

  class Group {
    constructor(begin, end) {
      Object.assign(this, {plates: [], first: begin, last: end, begin, end});
    }

    set(begin, end) {
      this.begin = Math.max(this.first, begin);
      this.end = Math.min(this.last, end);
      for (const plate of this.plates) {
        for (const drawing of plate.drawings) drawing.zoom(this.begin, this.end);
      }
    }

    scale(by) {
      const middle = (this.begin + this.end) / 2;
      const half = Math.min((this.end - this.begin) * by, this.last - this.first) / 2;
      const begin = Math.min(Math.max(middle - half, this.first), this.last - 2 * half);
      this.set(begin, begin + 2 * half);
    }

    point(share) {
      for (const plate of this.plates) {
        for (const drawing of plate.drawings) drawing.point(share);
      }
    }

    leave() {
      for (const plate of this.plates) plate.readout.classList.add("hidden");
      this.point(null);
    }
  }

  /* One bar for all the pictures of a section: what it does, it does to all of the run's. */
  const prepareBar = (plates, group) => {
    const own = group.plates.filter((plate) => plates.contains(plate.figure));
    if (own.length === 0) return;
    const bar = make("div", {class: "tools", role: "group", "aria-label": "Time shown in the pictures"});
    const button = (text, label, act) => {
      const made = make("button", {type: "button", "aria-label": label}, text);
      made.addEventListener("click", act);
      bar.append(made);
    };
    button("+", "zoom in", () => group.scale(0.5));
    button("\u2212", "zoom out", () => group.scale(2));
    button("whole run", "show the whole run", () => group.set(group.first, group.last));
    const slider = make("input", {type: "range", min: 0, max: 1000, value: 0});
    const label = make("label", {}, "values at ");
    const said = make("span", {role: "status"});
    const spoken = make("span", {class: "heard", role: "status"});
    slider.addEventListener("input", () => {
      const texts = own.map((plate) => plate.read(slider.value / 1000, plate.shown()));
      said.textContent = texts[0].split(": ")[0];
      spoken.textContent = texts.join("; ");
    });
    slider.addEventListener("blur", () => { group.leave(); said.textContent = ""; spoken.textContent = ""; });
    label.append(slider);
    bar.append(label, said, spoken, make("span", {class: "hint"}, "or drag over a picture"));
    plates.before(bar);
  };

  const preparePlates = () => {
    for (const figure of document.querySelectorAll(".plate")) {
      const values = figure.querySelector("script.values");
      if (!values) continue;
      const name = figure.closest("[data-setting]")?.dataset.setting ?? "";
      const {ends} = JSON.parse(values.textContent);
      if (!groups.has(name)) groups.set(name, new Group(...ends));
      groups.get(name).plates.push(new Plate(figure, groups.get(name)));
    }
    for (const plates of document.querySelectorAll(".plates")) {
      const group = groups.get(plates.closest("[data-setting]")?.dataset.setting ?? "");
      if (group) prepareBar(plates, group);
    }
  };

  /* --- one of several settings at a time --- */

  const prepareSettings = (box) => {
    const sides = [...box.querySelectorAll(":scope > [data-setting]")];
    if (sides.length < 2) return;
    const select = make("select");
    select.append(make("option", {value: ""}, box.dataset.all));
    for (const side of sides) {
      select.append(make("option", {value: side.dataset.setting}, side.dataset.name));
    }
    const label = make("label", {}, "Show: ");
    label.append(select);
    const tools = make("div", {class: "tools"});
    tools.append(label);
    box.before(tools);
    const show = () => {
      for (const side of sides) {
        side.classList.toggle("hidden", select.value !== "" && side.dataset.setting !== select.value);
      }
    };
    select.value = box.dataset.choice;
    select.addEventListener("change", show);
    show();
  };

  document.querySelectorAll(".table").forEach(prepareTable);
  document.querySelectorAll(".code").forEach(prepareCode);
  document.querySelectorAll(".settings").forEach(prepareSettings);
  preparePlates();
})();
