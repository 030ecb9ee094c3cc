"use strict";
/* A page that shows records listens whether there are new ones, while somebody looks at it, and offers to show them. Nothing else here
   needs scripts, and a page without this is as right, as of the time at its foot. */
(() => {
  const place = document.body.dataset.live;
  if (!place || !window.EventSource) return;
  let source = null, bar = null, count = null;
  const tell = (words, href, link) => {
    if (bar) bar.remove();
    bar = document.createElement("p");
    bar.className = "news";
    bar.setAttribute("role", "status");
    const way = document.createElement("a");
    way.href = href;
    way.textContent = link;
    count = document.createElement("span");
    count.setAttribute("aria-hidden", "true"); // said once, not at every change
    bar.append(words, count, ": ", way);
    document.getElementById("main").prepend(bar);
  };
  const close = () => {
    if (source) source.close();
    source = null;
  };
  const listen = () => {
    if (source || document.hidden) return;
    source = new EventSource(place);
    source.addEventListener("records", (event) => {
      if (!count) tell("New records since this page was made", location.href.split("#")[0], "show them");
      count.textContent = ` (${Number(event.data)})`;
    });
    source.addEventListener("over", () => {
      close();
      document.removeEventListener("visibilitychange", changed);
      tell("You are signed out", "/sign-in", "sign in");
    });
  };
  const changed = () => (document.hidden ? close() : listen());
  document.addEventListener("visibilitychange", changed);
  addEventListener("pagehide", close);
  addEventListener("pageshow", listen);
  listen();
})();
