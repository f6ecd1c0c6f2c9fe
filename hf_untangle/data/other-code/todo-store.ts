// A store of things to do: typed actions, a pure reducer, and a copy in the browser's storage.

export type Priority = "low" | "normal" | "high";

export interface Todo {
  readonly id: number;
  readonly title: string;
  readonly done: boolean;
  readonly priority: Priority;
  readonly due?: Date;
}

type Action =
  | { type: "add"; title: string; priority?: Priority; due?: Date }
  | { type: "toggle"; id: number }
  | { type: "rename"; id: number; title: string }
  | { type: "clear" };

interface State {
  readonly todos: readonly Todo[];
  readonly nextId: number;
}

const EMPTY: State = { todos: [], nextId: 1 };
const KEY = "todos";

function change(todos: readonly Todo[], id: number, fields: Partial<Todo>): Todo[] {
  return todos.map((todo) => (todo.id === id ? { ...todo, ...fields } : todo));
}

export function reduce(state: State, action: Action): State {
  switch (action.type) {
    case "add": {
      const { title, priority = "normal", due } = action;
      const todo: Todo = { id: state.nextId, title: title.trim(), done: false, priority, due };
      return { todos: [...state.todos, todo], nextId: state.nextId + 1 };
    }
    case "toggle": {
      const found = state.todos.find((todo) => todo.id === action.id);
      return found ? { ...state, todos: change(state.todos, action.id, { done: !found.done }) } : state;
    }
    case "rename":
      return { ...state, todos: change(state.todos, action.id, { title: action.title }) };
    case "clear":
      return { ...state, todos: state.todos.filter((todo) => !todo.done) };
  }
}

export class Store {
  private state: State;
  private readonly listeners: Array<(state: State) => void> = [];

  constructor(private readonly storage: Storage) {
    const saved = storage.getItem(KEY);
    this.state = saved === null ? EMPTY : (JSON.parse(saved) as State);
  }

  dispatch(action: Action): void {
    this.state = reduce(this.state, action);
    this.storage.setItem(KEY, JSON.stringify(this.state));
    this.listeners.forEach((listener) => listener(this.state));
  }

  onChange(listener: (state: State) => void): void {
    this.listeners.push(listener);
  }

  overdue(now: Date = new Date()): Todo[] {
    return this.state.todos.filter((todo) => !todo.done && todo.due !== undefined && todo.due < now);
  }
}
