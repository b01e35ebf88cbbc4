// What is chosen stands in the page's address, so that it can be kept as a bookmark and sent to a colleague.
window.ldmRemember = (name, value, usual) => {
  const address = new URL(window.location);
  const same = value === null || value === undefined || String(value) === String(usual);
  if (same) address.searchParams.delete(name);
  else address.searchParams.set(name, String(value).slice(0, 500));
  window.history.replaceState(null, "", address);
};

document.addEventListener("click", (event) => {
  const tab = event.target.closest && event.target.closest('[role="tab"]');
  if (tab && tab.closest(".tabs")) window.ldmRemember("tab", tab.textContent.trim().toLowerCase(), "play");
});

// A picture of one's own goes to the page's hidden field as text; nothing is written to a disk.
document.addEventListener("change", (event) => {
  const name = event.target.dataset && event.target.dataset.ldmFile;
  if (!name) return;
  const field = document.querySelector(`#${name} textarea, #${name} input`);
  const put = (text) => {
    const kind = field instanceof HTMLTextAreaElement ? HTMLTextAreaElement : HTMLInputElement;
    Object.getOwnPropertyDescriptor(kind.prototype, "value").set.call(field, text);
    field.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const file = event.target.files[0];
  if (!file) return put("");
  const reader = new FileReader();
  reader.onload = () => put("data:image/any;base64," + reader.result.split(",")[1]);
  reader.readAsDataURL(file);
});

// The scrubber of the page Denoise shows one of the frames beside it.
document.addEventListener("input", (event) => {
  if (!event.target.dataset || !event.target.dataset.ldmScrub) return;
  const frames = event.target.closest(".ldm-frames").querySelectorAll(".ldm-frame");
  frames.forEach((frame, number) => { frame.hidden = number !== Number(event.target.value); });
});
