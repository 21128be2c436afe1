/** After a click on a control keys go to the picture again; who works with keys keeps the focus. */

const PRESSED = "button, summary, a, input[type=range]";
const CHOSEN = "select, input[type=range], input[type=color]";

/** Blur every control that was used with the pointer; return a function that stops listening. */
export function listenToFocus(): () => void {
  let byPointer = false;
  const point = () => (byPointer = true);
  const press = () => (byPointer = false);
  const letGo = ({ type, target }: Event) => {
    const control = (target as Element).closest<HTMLElement>(type === "click" ? PRESSED : CHOSEN);
    if (byPointer && control && control === document.activeElement) control.blur();
  };
  window.addEventListener("pointerdown", point, { capture: true });
  window.addEventListener("keydown", press, { capture: true });
  window.addEventListener("click", letGo);
  window.addEventListener("change", letGo);
  return () => {
    window.removeEventListener("pointerdown", point, { capture: true });
    window.removeEventListener("keydown", press, { capture: true });
    window.removeEventListener("click", letGo);
    window.removeEventListener("change", letGo);
  };
}
