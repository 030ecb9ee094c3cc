"use strict";
// Draws the signals around an event with uPlot, from the registry's own interface; without it the pages' pictures stay.
(() => {
  const FAR = 2; // as plots.py: a limit further away than so many ranges of the signal is not drawn
  const charts = [];
  const words = (value, unit) => (value === null || value === undefined ? "–" : `${Number(value.toPrecision(7))}${unit ? " " + unit : ""}`);

  function near(trace) {
    const values = trace.points.map(([, value]) => value).filter(value => value !== null);
    const low = Math.min(...values), high = Math.max(...values);
    const reach = FAR * Math.max(high - low, Math.abs(high) * 1e-3, 1e-9);
    const limits = trace.limits.filter(([, value]) => value >= low - reach && value <= high + reach);
    const all = [low, high, ...limits.map(([, value]) => value)];
    const span = Math.max(...all) - Math.min(...all);
    const room = 0.06 * span || Math.max(Math.abs(high) * 0.05, 1e-9);
    return {limits, range: [Math.min(...all) - room, Math.max(...all) + room]};
  }

  function line(chart, x0, y0, x1, y1, colour, dash) {
    const c = chart.ctx;
    c.save();
    c.strokeStyle = colour;
    c.lineWidth = 1.5 * devicePixelRatio;
    c.setLineDash(dash.map(one => one * devicePixelRatio));
    c.beginPath();
    c.moveTo(x0, y0);
    c.lineTo(x1, y1);
    c.stroke();
    c.restore();
  }

  function marks(chart, limits, unit) {
    const {left, top, width, height} = chart.bbox, c = chart.ctx;
    for (const [place, [what, value]] of limits.entries()) {
      const y = chart.valToPos(value, "y", true);
      line(chart, left, y, left + width, y, "#97101c", [6, 4]);
      c.save();
      c.fillStyle = "#97101c";
      const right = place % 2 === 0; // so that one does not lie on the next
      c.textAlign = right ? "right" : "left";
      c.font = `${12 * devicePixelRatio}px sans-serif`;
      c.fillText(`${what} ${words(value, unit)}`, right ? left + width - 4 : left + 4, y - 6 * devicePixelRatio);
      c.restore();
    }
    const x = chart.valToPos(0, "x", true);
    line(chart, x, top, x, top + height, "#16202a", [2, 3]);
  }

  function draw(place, trace, answer) {
    const {limits, range} = near(trace);
    const data = [trace.points.map(([at]) => at), trace.points.map(([, value]) => value)];
    const axis = {stroke: "#475462", grid: {stroke: "#d5dbe1", width: 1}};
    const chart = new uPlot({
      width: place.clientWidth, height: 220, cursor: {y: false, sync: {key: "signals"}},
      scales: {x: {time: false, range: [-answer.before_s, answer.after_s]}, y: {range}},
      axes: [{...axis, label: "s since the event"}, {...axis, size: 90, values: (_, splits) => splits.map(one => Number(one.toPrecision(9)))}],
      series: [
        {label: "s", value: (_, value) => words(value, "")},
        {label: trace.name, stroke: "#0b4f9c", width: 1.5, points: {show: trace.points.length < 100}, value: (_, value) => words(value, trace.unit)},
      ],
      hooks: {draw: [chart => marks(chart, limits, trace.unit)]},
    }, data, place);
    charts.push([place, chart]);
  }

  function show(holder, answer) {
    for (const trace of answer.signals) {
      if (!trace.points.some(([, value]) => value !== null)) continue;
      let figure = [...holder.querySelectorAll("figure")].find(one => one.dataset.signal === trace.name);
      if (!figure) {
        figure = document.createElement("figure");
        const caption = document.createElement("figcaption");
        caption.textContent = trace.unit ? `${trace.name} (${trace.unit})` : trace.name;
        figure.append(caption);
        holder.append(figure);
      }
      const place = document.createElement("div"), picture = figure.querySelector("svg");
      place.setAttribute("role", "img");
      place.setAttribute("aria-label", picture ? picture.getAttribute("aria-label") : `${trace.name} around the event; the page of signals has its figures`);
      figure.append(place);
      draw(place, trace, answer);
      if (picture) picture.remove();
    }
    holder.dataset.shown = answer.failure ? "nothing" : "yes";
  }

  async function load(holder) {
    const said = holder.querySelector("[data-state]");
    if (said) said.textContent = "Reading the black box…";
    try {
      const response = await fetch(holder.dataset.signals, {credentials: "same-origin"});
      if (!response.ok) throw new Error(`the registry answers ${response.status}`);
      const answer = await response.json();
      show(holder, answer);
      if (said) said.textContent = answer.failure ? `No signals are shown: ${answer.failure}.` : `Proven to ${answer.proven_to_s.toFixed(3)} s after the event by record ${answer.black_box.record}.`;
    } catch (error) {
      if (said) said.textContent = `The signals could not be loaded: ${error.message}.`;
    }
  }

  for (const holder of document.querySelectorAll("[data-signals]")) {
    new IntersectionObserver((seen, observer) => {
      if (!seen.some(one => one.isIntersecting)) return;
      observer.disconnect();
      load(holder);
    }, {rootMargin: "200px"}).observe(holder);
  }
  addEventListener("resize", () => charts.forEach(([place, chart]) => chart.setSize({width: place.clientWidth, height: 220})));
})();
