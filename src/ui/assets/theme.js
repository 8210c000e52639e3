// Sets the chosen theme before anything is drawn. Not a module, so that it runs at once.
(() => {
  const read = () => { try { return localStorage.getItem("sluice-theme"); } catch { return null; } };
  const theme = read();
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
})();
