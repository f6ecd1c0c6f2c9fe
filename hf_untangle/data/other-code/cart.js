// A shopping cart that keeps prices in cents and recomputes its total when something changes.

const TAX = { book: 0.07, food: 0.07, other: 0.19 };

export class Cart {
  constructor(currency = "EUR") {
    this.currency = currency;
    this.lines = new Map();
    this.listeners = new Set();
  }

  add(product, quantity = 1) {
    if (!Number.isInteger(quantity) || quantity < 1) {
      throw new RangeError(`quantity must be a positive integer, got ${quantity}`);
    }
    const line = this.lines.get(product.id) ?? { product, quantity: 0 };
    line.quantity += quantity;
    this.lines.set(product.id, line);
    this.notify();
    return this;
  }

  remove(id) {
    if (this.lines.delete(id)) {
      this.notify();
    }
  }

  get total() {
    let net = 0;
    let tax = 0;
    for (const { product, quantity } of this.lines.values()) {
      const price = product.cents * quantity;
      net += price;
      tax += Math.round(price * (TAX[product.kind] ?? TAX.other));
    }
    return { net, tax, gross: net + tax };
  }

  subscribe(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  notify() {
    const { gross } = this.total;
    this.listeners.forEach((listener) => listener(gross));
  }
}

export function format(cents, currency) {
  return new Intl.NumberFormat("de-DE", { style: "currency", currency }).format(cents / 100);
}

document.querySelectorAll("[data-product]").forEach((button) => {
  button.addEventListener("click", async (event) => {
    event.preventDefault();
    const response = await fetch(`/api/products/${button.dataset.product}`);
    if (!response.ok) {
      console.error("product could not be loaded", response.status);
      return;
    }
    window.cart.add(await response.json());
  });
});
