// Fills in the code that the cabinet's screen put into the address, and shows a swap
// as it goes on. The words come from the server: an event says that something
// changed, and the same fragment as of a refreshed page is fetched. Without an
// event stream it is fetched every 2 s.
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

  var box = document.getElementById("live");
  if (!box || !box.dataset.events || !window.fetch) return;
  var loading = false, again = false, timer = 0, source = null, url = new URL(location.href);
  url.pathname += "/live";

  function stop() {
    if (source) source.close();
    clearInterval(timer);
  }

  function load() {
    if (loading) { again = true; return; }
    loading = true;
    fetch(url, { credentials: "same-origin" }).then(function (r) {
      if (r.status === 401 || r.status === 404) { stop(); location.reload(); }
      return r.ok ? r.text() : "";
    }).then(function (html) {
      if (html && html !== box.innerHTML) box.innerHTML = html;
      if (box.querySelector("[data-closed]")) stop();
    }).catch(function () { /* the next event or tick tries again */ }).then(function () {
      loading = false;
      if (again) { again = false; load(); }
    });
  }

  function poll(on) {
    clearInterval(timer);
    if (on) timer = setInterval(load, 2000);
  }

  poll(true);
  if (window.EventSource) {
    source = new EventSource(box.dataset.events);
    source.onopen = function () { poll(false); load(); };
    source.onerror = function () { poll(true); };
    source.addEventListener("swap", load);
  }
})();
