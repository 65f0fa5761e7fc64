// Fills in the code that the cabinet's screen put into the address, shows at once
// that a tap was felt, and shows a swap as it goes on. The words come from the
// server: an event says that something changed, and the same fragment as of a
// refreshed page is fetched. Without an event stream it is fetched every 2 s, with
// one every 10 s, for a stream may be dead without knowing. When nothing is
// answered for 6 s the page says so.
(function () {
  "use strict";
  var field = document.querySelector("input[name=presence]"), kept;
  try {
    if (/^#[0-9A-Z]{6}$/.test(location.hash)) {
      sessionStorage.setItem("code", location.hash.slice(1) + Date.now());
      history.replaceState(null, "", location.pathname + location.search);
    }
    kept = sessionStorage.getItem("code");
  } catch (e) { kept = null; /* a browser that keeps nothing: it can be typed */ }
  if (field && kept && Date.now() - kept.slice(6) < 60000) field.value = kept.slice(0, 6);

  document.addEventListener("submit", function (e) {
    var b = e.target.querySelector("[data-busy]");
    if (!b) return;
    if (b.hasAttribute("aria-busy")) { e.preventDefault(); return; }
    b.dataset.was = b.textContent;
    b.textContent = b.dataset.busy;
    b.setAttribute("aria-busy", "true");
  });
  addEventListener("pageshow", function () { // by "back": the tap is over
    document.querySelectorAll("[data-was]").forEach(function (b) {
      b.textContent = b.dataset.was;
      b.removeAttribute("aria-busy");
      b.removeAttribute("data-was");
    });
  });

  var box = document.getElementById("live"), lost = document.getElementById("lost");
  if (!box || !box.dataset.events || !window.fetch) return;
  var loading = false, again = false, timer = 0, source = null, heard = Date.now(), ended = false, url = new URL(location.href);
  url.pathname += "/live";

  function stop() {
    ended = true;
    if (source) source.close();
    clearInterval(timer);
  }

  // show keeps the keyboard where it was.
  function show(html) {
    var at = document.activeElement, was = at && box.contains(at) ? at.outerHTML : "";
    box.innerHTML = html;
    if (was) [].some.call(box.querySelectorAll("a,button"), function (e) { return e.outerHTML === was && (e.focus(), true); });
  }

  function load() {
    if (ended) return;
    if (loading) { again = true; return; }
    loading = true;
    var ctl = window.AbortController ? new AbortController() : null, late = setTimeout(function () { if (ctl) ctl.abort(); }, 8000);
    fetch(url, { credentials: "same-origin", signal: ctl ? ctl.signal : undefined }).then(function (r) {
      if (r.status === 401 || r.status === 404) { stop(); location.reload(); }
      return r.ok ? r.text() : "";
    }).then(function (html) {
      if (!html) return;
      heard = Date.now();
      lost.hidden = true;
      if (html !== box.innerHTML) show(html);
      if (box.querySelector("[data-closed]")) stop();
    }).catch(function () { /* the next event or tick tries again */ }).then(function () {
      clearTimeout(late);
      loading = false;
      if (!ended && Date.now() - heard > 6000) lost.hidden = false;
      if (again) { again = false; load(); }
    });
  }

  function poll(ms) {
    clearInterval(timer);
    timer = setInterval(load, ms);
  }

  // follow opens the stream, and again when the server has closed it for good.
  function follow() {
    if (ended) return;
    source = new EventSource(box.dataset.events);
    source.onopen = function () { poll(10000); load(); };
    source.onerror = function () {
      poll(2000);
      if (source.readyState === 2) setTimeout(follow, 5000);
    };
    source.addEventListener("swap", load);
  }

  poll(2000);
  addEventListener("online", load);
  document.addEventListener("visibilitychange", function () { if (!document.hidden) load(); });
  if (window.EventSource) follow();
})();
