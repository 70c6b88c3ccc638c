// The photos of a visit as a row of buttons.
export default function ({ parentElement, data, setStateValue }) {
  const list = parentElement.querySelector(".strip");
  const focused = parentElement.activeElement?.dataset.id;
  list.replaceChildren(...data.photos.map(({ id, name, words, thumbnail }) => {
    const frame = Object.assign(document.createElement("span"), { className: "frame" });
    if (thumbnail) frame.append(Object.assign(document.createElement("img"), { src: thumbnail, alt: "" }));
    const button = Object.assign(document.createElement("button"), { type: "button", title: name });
    button.dataset.id = id;
    button.setAttribute("aria-current", String(id === data.chosen));
    button.onclick = () => setStateValue("chosen", id);
    button.append(frame,
      Object.assign(document.createElement("span"), { className: "name", textContent: name }),
      Object.assign(document.createElement("span"), { className: "words", textContent: words }));
    const item = document.createElement("li");
    item.append(button);
    return item;
  }));
  if (focused) list.querySelector(`[data-id="${CSS.escape(focused)}"]`)?.focus();
}
