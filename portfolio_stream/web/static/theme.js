// Light or dark: the system's choice until the reader makes one.

const KEY = "portfolio-stream-theme";
const system = matchMedia("(prefers-color-scheme: dark)");

export function setUpTheme(button) {
  const show = () => {
    const chosen = localStorage.getItem(KEY);
    const isDark = chosen ? chosen === "dark" : system.matches;
    if (chosen) document.documentElement.dataset.theme = chosen;
    button.textContent = isDark ? "Light" : "Dark";
    button.setAttribute("aria-label", isDark ? "Switch to light colours" : "Switch to dark colours");
    button.onclick = () => {
      localStorage.setItem(KEY, isDark ? "light" : "dark");
      show();
    };
  };
  system.addEventListener("change", show);
  show();
}
